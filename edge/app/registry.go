package app

import (
	"errors"
	"fmt"
)

// Registry finds apps by key and by id. It is immutable and safe for
// concurrent use.
type Registry struct {
	apps  []*App
	byID  map[string]*App
	byKey map[string]*App
}

// NewRegistry indexes apps. The error joins every problem found: a missing or
// doubled id or key, a missing secret.
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
	switch {
	case a.ID == "":
		problems = append(problems, fmt.Errorf("app %d has no id", i+1))
	case r.byID[a.ID] != nil:
		problems = append(problems, fmt.Errorf("app id %q is used twice", a.ID))
	default:
		r.byID[a.ID] = a
	}
	if len(a.Credentials) == 0 {
		problems = append(problems, fmt.Errorf("app %q has no key and secret", a.ID))
	}
	for _, c := range a.Credentials {
		switch {
		case c.Key == "":
			problems = append(problems, fmt.Errorf("app %q has an empty key", a.ID))
		case c.Secret == "":
			problems = append(problems, fmt.Errorf("app %q has an empty secret for key %q", a.ID, c.Key))
		case r.byKey[c.Key] != nil:
			problems = append(problems, fmt.Errorf("key %q is used twice", c.Key))
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
