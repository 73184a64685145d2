package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/joho/godotenv"

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
}

// loader collects values and problems.
type loader struct {
	Source
	envFile  map[string]string
	file     map[string]any
	problems []error
}

func (l *loader) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Errorf(format, args...))
}

// Load reads the configuration and validates it. The error joins all problems.
// Without any app it makes the development app, whose credentials it keeps in
// the data folder.
func Load(s Source) (Config, error) {
	l := &loader{Source: s}
	l.readEnvFile()
	l.readFile()
	c := Default()
	for _, row := range settings {
		text, where, found := l.lookup(row.key, row.flag(), row.env())
		if !found {
			continue
		}
		if err := assign(row.bind(&c), text); err != nil {
			l.problem("%s is %q: %w", where, text, err)
		}
	}
	c.Apps = l.apps()
	if err := errors.Join(l.problems...); err != nil {
		return c, err
	}
	if err := c.Validate(); err != nil {
		return c, err
	}
	if len(c.Apps) == 0 {
		a, err := developmentApp(c.DataDir)
		if err != nil {
			return c, err
		}
		c.Apps, c.Development = []*app.App{a}, true
	}
	return c, nil
}

// env is an environment variable, or what the env file says.
func (l *loader) env(name string) (string, bool) {
	if text, found := l.Env(name); found {
		return text, true
	}
	text, found := l.envFile[name]
	return text, found
}

// lookup finds a value and names its place: flag, environment, file.
func (l *loader) lookup(key, flag, env string) (text, where string, found bool) {
	if text, found := l.Flag(flag); found {
		return text, "--" + flag, true
	}
	if text, found := l.env(env); found {
		return text, env, true
	}
	value, found := l.file[key]
	if !found {
		return "", "", false
	}
	text, err := scalar(value)
	if err != nil {
		l.problem("%s in the configuration file: %w", key, err)
		return "", "", false
	}
	return text, key, true
}

// scalar prints a YAML value that is not a list or a map; a list of scalars is
// joined by commas.
func scalar(value any) (string, error) {
	switch v := value.(type) {
	case nil:
		return "", nil
	case map[string]any:
		return "", errors.New("should be a single value, not a map")
	case []any:
		parts := make([]string, len(v))
		for i, element := range v {
			if _, nested := element.([]any); nested {
				return "", errors.New("should be a list of single values")
			}
			text, err := scalar(element)
			if err != nil {
				return "", err
			}
			parts[i] = text
		}
		return strings.Join(parts, ","), nil
	}
	return fmt.Sprint(value), nil
}

func (l *loader) readEnvFile() {
	path, found := l.Flag(flagEnvFile)
	if !found {
		if path, found = l.Env("REECHO_ENV_FILE"); !found {
			return
		}
	}
	values, err := godotenv.Read(path)
	if err != nil {
		l.problem("--%s %s: %w", flagEnvFile, path, err)
		return
	}
	l.envFile = values
}

func (l *loader) readFile() {
	path, found := l.Flag(flagConfig)
	if !found {
		if path, found = l.env("REECHO_CONFIG"); !found {
			return
		}
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names it
	if err != nil {
		l.problem("--%s: %w", flagConfig, err)
		return
	}
	if err := yaml.Unmarshal(text, &l.file); err != nil {
		l.problem("%s is not valid YAML: %s", path, yaml.FormatError(err, false, true))
		return
	}
	known := []string{"apps"}
	for _, s := range settings {
		known = append(known, s.key)
	}
	l.checkKeys(path, l.file, known)
}

// checkKeys reports keys that mean nothing, with the nearest that does.
func (l *loader) checkKeys(where string, have map[string]any, known []string) {
	for _, key := range slices.Sorted(maps.Keys(have)) {
		if slices.Contains(known, key) {
			continue
		}
		hint := ""
		for _, k := range known {
			if strings.EqualFold(strings.ReplaceAll(key, "-", "_"), k) {
				hint = fmt.Sprintf(", did you mean %s?", k)
			}
		}
		l.problem("%s: unknown key %q%s", where, key, hint)
	}
}
