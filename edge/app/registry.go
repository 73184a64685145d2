package app

import (
	"errors"
	"fmt"
	"slices"
)

// Registry finds apps by key and by id. It is immutable and safe for
// concurrent use.
type Registry struct {
	apps  []*App
	byID  map[string]*App
	byKey map[string]*App
}

// NewRegistry indexes apps. The error joins every problem found: a missing or
// doubled id or key, a missing secret. It says where they are and not what they
// are: where key and secret were exchanged, that would be the secret.
func NewRegistry(apps []*App) (*Registry, error) {
	r := &Registry{apps: apps, byID: map[string]*App{}, byKey: map[string]*App{}}
	var problems []error
	for i, a := range apps {
		problems = append(problems, r.add(i, a))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Registry) add(i int, a *App) error {
	var problems []error
	where := fmt.Sprintf("apps[%d]", i)
	switch {
	case a.ID == "":
		problems = append(problems, fmt.Errorf("%s has no id", where))
	case r.byID[a.ID] != nil:
		problems = append(problems, fmt.Errorf("%s has the id of apps[%d]", where, slices.Index(r.apps, r.byID[a.ID])))
	default:
		r.byID[a.ID] = a
	}
	if len(a.Credentials) == 0 {
		problems = append(problems, fmt.Errorf("%s has no key and secret", where))
	}
	for n, c := range a.Credentials {
		if len(a.Credentials) > 1 {
			where = fmt.Sprintf("apps[%d], pair %d,", i, n+1)
		}
		switch {
		case c.Key == "":
			problems = append(problems, fmt.Errorf("%s has an empty key", where))
		case c.Secret == "":
			problems = append(problems, fmt.Errorf("%s has an empty secret", where))
		case r.byKey[c.Key] != nil:
			problems = append(problems, fmt.Errorf("%s has a key that apps[%d] has, too", where, slices.Index(r.apps, r.byKey[c.Key])))
		default:
			r.byKey[c.Key] = a
		}
	}
	return errors.Join(problems...)
}

// ByID returns the app with this id, or nil.
func (r *Registry) ByID(id string) *App { return r.byID[id] }

// ByKey returns the app that owns this key, or nil.
func (r *Registry) ByKey(key string) *App { return r.byKey[key] }

// All returns every app in the order of the configuration. The caller must
// not change the slice.
func (r *Registry) All() []*App { return r.apps }
