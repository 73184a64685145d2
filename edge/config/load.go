package config

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"reecho/edge/app"
)

// Names of the flags that are not settings.
const (
	flagConfig    = "config"
	flagEnvFile   = "env-file"
	flagAppID     = "app-id"
	flagAppKey    = "app-key"
	flagAppSecret = "app-secret"
)

// Source is where Load reads from. Tests replace it.
type Source struct {
	// Flag returns the value of a flag that was given.
	Flag func(name string) (string, bool)
	// Env returns an environment variable.
	Env func(name string) (string, bool)
	// Environ lists the environment as NAME=VALUE, for names that mean nothing;
	// nil does not look for them.
	Environ func() []string
}

// loader collects values and problems.
type loader struct {
	Source
	envFile  map[string]string
	envLines map[string]int // where its variables are
	envPath  string
	file     *tree
	// own are the settings that flags, REECHO_ variables or the file give, with
	// which of them does.
	own      map[string]string
	problems []error
	warnings []string
	// places says where an app comes from, asLaravel has those whose secret a
	// Laravel .env gives.
	places    map[*app.App]string
	asLaravel map[*app.App]bool
	// products are the apps of other servers' variables, by the server; appsFrom is
	// what gives the apps instead.
	products map[string]*app.App
	appsFrom string
	// driver is the broadcaster that the variables name which driverName has, if they
	// decide which of the servers' variables count.
	driver, driverName string
	// listed are the apps of a list, which have their own webhooks; oneApp are those of
	// an app that is in none.
	listed map[*app.App]bool
	oneApp []app.Webhook
}

func (l *loader) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Errorf(format, args...))
}

func (l *loader) warn(format string, args ...any) {
	l.warnings = append(l.warnings, fmt.Sprintf(format, args...))
}

// Load reads the configuration and validates it. The error joins all problems.
// Without any app it makes the development app, whose credentials it keeps in
// the data folder.
func Load(s Source) (Config, error) {
	l := &loader{Source: s, places: map[*app.App]string{}, asLaravel: map[*app.App]bool{}, own: map[string]string{}, products: map[string]*app.App{}, listed: map[*app.App]bool{}}
	l.readEnvFile()
	l.checkEnv()
	l.readFile()
	c := Default()
	for _, row := range settings {
		text, where, found := l.lookup(row.key, row.flag(), row.env())
		if !found {
			continue
		}
		l.own[row.key] = where
		before := c
		if err := assign(row.bind(&c), text); err != nil {
			c = before // or Validate has something to say of it, too
			l.problem("%s is %s: %w", where, quote(text), err)
		}
	}
	c.Apps = l.apps()
	l.addWebhooks(c.Apps)
	l.readForeign(&c)
	c.Warnings, c.places, c.asLaravel = l.warnings, l.places, l.asLaravel
	if err := errors.Join(append(l.problems, c.Validate())...); err != nil || len(c.Apps) > 0 {
		return c, err
	}
	// Last of all: a configuration with a mistake leaves no file behind. The app is
	// validated too, for its file may have been edited.
	a, err := developmentApp(c.Store.Dir)
	if err != nil {
		return c, err
	}
	a.Webhooks = l.oneApp
	c.Apps, c.Development = []*app.App{a}, true
	return c, c.Validate()
}

// lookup finds a value and names its place: flag, environment, file. The nearer
// to the start of this one process a source is, the more it counts.
func (l *loader) lookup(key, flag, env string) (text, where string, found bool) {
	if text, found := l.Flag(flag); found {
		return text, "--" + flag, true
	}
	if text, found := l.env(env); found {
		return text, env, true
	}
	text, found, err := l.file.field(key).value()
	if err != nil {
		l.problem("%s in the configuration file: %w", key, err)
		return "", "", false
	}
	return text, key, found
}

// path returns the name of a file that a flag or a variable gives. It is checked
// before anything is opened: a secret, or the text of a whole file, that was given
// in its place would be repeated by the system's error.
func (l *loader) path(flag, env string, look func(string) (string, bool)) (string, bool) {
	where := "--" + flag
	path, found := l.Flag(flag)
	if !found {
		where = env
		path, found = look(env)
	}
	if err := checkPath(where, path); err != nil {
		l.problem("%w", err)
		return "", false
	}
	return path, found
}

// read reads a file that the operator named, and warns if anybody may change
// it: who writes to it has an app of his own. Windows keeps no such bits.
func (l *loader) read(path string) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o002 != 0 && runtime.GOOS != "windows" {
		l.warn("%s can be changed by everybody on this machine: chmod o-w", path)
	}
	return os.ReadFile(path) //nolint:gosec // the operator names it
}

func (l *loader) readFile() {
	path, found := l.path(flagConfig, "REECHO_CONFIG", l.env)
	if !found {
		return
	}
	text, err := l.read(path)
	if err != nil {
		l.problem("--%s: %w", flagConfig, fileError(path, err))
		return
	}
	file, err := parseTree(text)
	if err != nil {
		l.problem("%s is not valid YAML or JSON: %w", path, err)
		return
	}
	if file.kind != mapping {
		l.problem("%s should be a map of settings, like listen: 0.0.0.0:6001", path)
		return
	}
	l.file = file
	l.checkKeys(path, l.file, append(keysOf(settings), "apps"))
}

// keysOf returns the keys of a table.
func keysOf[T any](table []setting[T]) []string {
	keys := make([]string, len(table))
	for i, s := range table {
		keys[i] = s.key
	}
	return keys
}

// keyName is what a key looks like that may be shown: one with a value, and
// of letters. In {secret:abc}, without a blank, all of it is the key.
var keyName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z_-]{0,40}$`)

// checkKeys reports keys that mean nothing, with the nearest that does. To pass
// over them would leave a limit, or TLS, at its default without a word.
func (l *loader) checkKeys(where string, have *tree, known []string) {
	for _, key := range slices.Sorted(slices.Values(have.keys)) {
		if slices.Contains(known, key) {
			continue
		}
		// A line number tells enough where the key may be a secret itself.
		value := have.fields[key]
		if value.null || !keyName.MatchString(key) {
			l.problem("%s: unknown key on line %d, or the blank behind its colon is missing", where, value.line)
			continue
		}
		hint := ""
		for _, k := range known {
			if strings.EqualFold(strings.ReplaceAll(key, "-", "_"), k) {
				hint = fmt.Sprintf(", did you mean %s?", k)
			}
		}
		l.problem("%s: unknown key %q on line %d%s", where, key, value.line, hint)
	}
}
