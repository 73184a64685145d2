package config

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"reecho/edge/app"
)

// apps returns the apps of the first source that names any: our own flags and
// variables, REECHO_APPS, the variables of a Laravel .env, the file. They are not
// put together: an app of one source with a switch of another would be one that
// nobody has written down.
func (l *loader) apps() []*app.App {
	own := l.triple("--app-id, REECHO_APP_ID and so on", func(part string) (string, bool) {
		if text, found := l.Flag("app-" + part); found {
			return text, true
		}
		return l.env("REECHO_APP_" + strings.ToUpper(part))
	})
	if own != nil {
		l.appsFrom = "--app-id or REECHO_APP_ID"
		return []*app.App{own}
	}
	if text, found := l.env("REECHO_APPS"); found {
		l.appsFrom = "REECHO_APPS"
		list, err := parseTree([]byte(text))
		if err != nil {
			l.problem("REECHO_APPS is not valid YAML or JSON: %w", err)
			return nil
		}
		return l.appList("REECHO_APPS", list)
	}
	if found := l.foreignApps(); len(found) > 0 {
		return found
	}
	if list := l.file.field("apps"); list != nil && !list.null {
		l.appsFrom = "the file of --config"
		return l.appList("apps", list)
	}
	return nil
}

// parts are what an app needs.
var parts = []string{"id", "key", "secret"}

// triple makes an app of an id, a key and a secret; nil if none of them is
// given. Some without the others is a problem.
func (l *loader) triple(where string, part func(string) (string, bool)) *app.App {
	values, missing := map[string]string{}, []string{}
	for _, name := range parts {
		if text, found := part(name); found && text != "" {
			values[name] = text
		} else {
			missing = append(missing, name)
		}
	}
	if len(missing) == len(parts) {
		return nil
	}
	if len(missing) > 0 {
		l.problem("%s: an app needs id, key and secret; missing: %s", where, strings.Join(missing, ", "))
		return nil
	}
	a := NewApp()
	a.ID = values["id"]
	a.Credentials = []app.Credential{{Key: values["key"], Secret: values["secret"]}}
	l.places[a] = where
	return a
}

// foreignApps reads the apps of other servers' variables, as they stand in a Laravel
// .env. Where there are several, BROADCAST_CONNECTION (or BROADCAST_DRIVER) tells
// which one is in use; without it all are served.
func (l *loader) foreignApps() []*app.App {
	var order []*product
	for i := range products {
		if products[i].app != "" {
			order = append(order, &products[i])
		}
	}
	driver, name := l.broadcaster()
	// What is in use comes first, and of these what the application itself reads:
	// another one may be half of an app.
	slices.SortStableFunc(order, func(a, b *product) int { return inUse(driver, b) - inUse(driver, a) })
	var apps []*app.App
	for _, p := range order {
		// An .env of Laravel names PUSHER_APP_… with nothing behind it.
		a := l.triple(p.app+"ID, "+p.app+"KEY, "+p.app+"SECRET", func(part string) (string, bool) {
			return l.laravelEnv(p.app + strings.ToUpper(part))
		})
		if a == nil {
			continue
		}
		// A slip in the .env is one that Laravel signs with, too; one in the real
		// environment may be this server's alone.
		_, real := l.realEnv(p.app + "SECRET")
		l.asLaravel[a] = !real && p.away.host != ""
		if inUse(driver, p) > 0 {
			l.driver, l.driverName, l.products[p.name] = p.driver, name, a
			return []*app.App{a}
		}
		// Who moved from one to the other may have given both the same credentials.
		same := slices.IndexFunc(apps, func(other *app.App) bool { return other.ID == a.ID && other.Credentials[0] == a.Credentials[0] })
		if same >= 0 {
			l.products[p.name] = apps[same]
			continue
		}
		l.checkContradiction(p, a)
		l.products[p.name] = a
		apps = append(apps, a)
	}
	return apps
}

// checkContradiction says which variables give one id, or one key, to two apps. Both
// are meant to be one and the same, and which secret is right nobody can know.
func (l *loader) checkContradiction(p *product, a *app.App) {
	for i := range products {
		other := &products[i]
		if have := l.products[other.name]; have != nil && (have.ID == a.ID || have.Key() == a.Key()) {
			l.problem("%s… and %s… give one app different credentials: make them the same, or say with %s=%s (or %s) which count",
				other.app, p.app, driverVariables[0], other.driver, p.driver)
			return
		}
	}
}

// broadcaster is what Laravel's configuration names, and the variable that does.
func (l *loader) broadcaster() (driver, name string) {
	for _, name := range driverVariables {
		if text, found := l.laravelEnv(name); found {
			return strings.ToLower(text), name
		}
	}
	return "", ""
}

// inUse is above 0 for a product that the broadcaster of a Laravel application talks
// to, and highest for the one whose credentials it reads.
func inUse(driver string, p *product) int {
	switch {
	case driver != p.driver:
		return 0
	case p.away.host == "":
		return 1
	}
	return 2
}

// appList reads a list of apps. An empty one is taken for a mistake: a server that
// made up an app for development then would run in production with it.
func (l *loader) appList(where string, list *tree) []*app.App {
	if list.kind != sequence || len(list.list) == 0 {
		l.problem("%s should be a list of apps; leave it out for an app for development", where)
		return nil
	}
	apps := make([]*app.App, 0, len(list.list))
	for i, element := range list.list {
		at := fmt.Sprintf("%s[%d]", where, i)
		if element.kind != mapping {
			l.problem("%s should be a map with id, key and secret", at)
			continue
		}
		apps = append(apps, l.app(at, element))
	}
	return apps
}

func (l *loader) app(at string, m *tree) *app.App {
	a := NewApp()
	l.places[a], l.listed[a] = at, true
	known := []string{"id", "key", "secret", "credentials", "limits", "retention", "webhooks"}
	l.checkKeys(at, m, append(known, keysOf(appSettings)...))
	a.ID = l.text(at, m, "id")
	// Also without all three, so that the missing key is a problem.
	if m.field("key") != nil || m.field("secret") != nil || m.field("credentials") == nil {
		a.Credentials = append(a.Credentials, app.Credential{Key: l.text(at, m, "key"), Secret: l.text(at, m, "secret")})
	}
	a.Credentials = append(a.Credentials, l.credentials(at+".credentials", m.field("credentials"))...)
	assignAll(l, at, m, a, appSettings)
	a.Retention = l.retention(at+".retention", m.field("retention"))
	a.Webhooks = l.webhooks(at+".webhooks", m.field("webhooks"))
	if limits := m.field("limits"); limits != nil && !limits.null {
		if limits.kind != mapping {
			l.problem("%s.limits should be a map", at)
			return a
		}
		l.checkKeys(at+".limits", limits, keysOf(limitSettings))
		assignAll(l, at+".limits", limits, &a.Limits, limitSettings)
	}
	return a
}

func (l *loader) retention(at string, value *tree) []app.Retention {
	var rules []app.Retention
	l.eachMap(at, value, "{channels, age, events, …}", func(where string, m *tree) {
		l.checkKeys(where, m, keysOf(retentionSettings))
		var r app.Retention
		assignAll(l, where, m, &r, retentionSettings)
		// 0 is "as the server's settings say" in a Retention, and means nothing at
		// all to whoever writes it.
		for _, key := range []string{"age", "events", "bytes", "replicas"} {
			if text, set, err := m.field(key).value(); set && err == nil && strings.Trim(text, "0") == "" {
				l.problem("%s.%s is %s: leave it out for what the server keeps, or set off: true to keep nothing", where, key, text)
			}
		}
		rules = append(rules, r)
	})
	return rules
}

// eachMap calls visit for each element of a list of maps like shape; absent is
// none.
func (l *loader) eachMap(at string, value *tree, shape string, visit func(where string, m *tree)) {
	if value == nil || value.null {
		return
	}
	if value.kind != sequence {
		l.problem("%s should be a list of %s", at, shape)
		return
	}
	for i, element := range value.list {
		where := fmt.Sprintf("%s[%d]", at, i)
		if element.kind != mapping {
			l.problem("%s should be a map like %s", where, shape)
			continue
		}
		visit(where, element)
	}
}

// assignAll sets the rows of a table that m has. What cannot be read leaves the
// whole target as it was: half a value would be a second problem for Validate.
func assignAll[T any](l *loader, at string, m *tree, target *T, table []setting[T]) {
	for _, s := range table {
		text, set, err := m.field(s.key).value()
		switch {
		case err != nil:
			l.problem("%s.%s: %w", at, s.key, err)
		case set:
			before := *target
			if err := assign(s.bind(target), text); err != nil {
				*target = before
				l.problem("%s.%s is %s: %w", at, s.key, quote(text), err)
			}
		}
	}
}

// text returns an id, a key or a secret: whatever it looks like, it is text as
// it is written. A secret of 0123 or 1e5, read as a number, made every call 401.
func (l *loader) text(at string, m *tree, key string) string {
	value := m.field(key)
	if value == nil {
		return ""
	}
	if value.kind != single {
		l.problem("%s.%s: should be a single value", at, key)
	}
	return value.text
}

func (l *loader) credentials(at string, value *tree) []app.Credential {
	var credentials []app.Credential
	l.eachMap(at, value, "{key, secret}", func(where string, m *tree) {
		l.checkKeys(where, m, []string{"key", "secret"})
		credentials = append(credentials, app.Credential{Key: l.text(where, m, "key"), Secret: l.text(where, m, "secret")})
	})
	return credentials
}

// developmentFile keeps the credentials of the development app, so that they
// are the same after a restart.
const developmentFile = "development-app.json"

type developmentCredentials struct {
	ID     string `json:"id"`
	Key    string `json:"key"`
	Secret string `json:"secret"`
}

// developmentApp is the app of a server that was given none.
func developmentApp(dataDir string) (*app.App, error) {
	path := filepath.Join(dataDir, developmentFile)
	var c developmentCredentials
	text, err := os.ReadFile(path) //nolint:gosec // the operator's own data folder
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if c, err = newDevelopmentCredentials(path); err != nil {
			return nil, fmt.Errorf("make the development app: %w", err)
		}
	case err != nil:
		return nil, fmt.Errorf("read the development app: %w", err)
	default:
		// It is not made anew by itself: clients may have what stood in it.
		if err := json.Unmarshal(text, &c); err != nil || c.ID == "" || c.Key == "" || c.Secret == "" {
			return nil, fmt.Errorf("%s is damaged: delete it for new credentials, or configure an app", path)
		}
	}
	a := NewApp()
	a.ID, a.Credentials = c.ID, []app.Credential{{Key: c.Key, Secret: c.Secret}}
	return a, nil
}

func newDevelopmentCredentials(path string) (developmentCredentials, error) {
	// A numeric id: some server libraries take no other (PROTOCOL §3).
	c := developmentCredentials{ID: "100001", Key: "dev-" + strings.ToLower(rand.Text()[:16]), Secret: strings.ToLower(rand.Text())}
	text, err := json.MarshalIndent(c, "", "  ") //nolint:gosec // a file for its owner alone is where the secret belongs
	if err != nil {
		return c, err
	}
	// The app is made before the store, so the data folder may not be there.
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return c, err
	}
	return c, os.WriteFile(path, append(text, '\n'), 0o600)
}
