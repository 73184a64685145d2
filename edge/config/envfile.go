package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"reecho/edge/config/dotenv"
)

// driverVariables tell which broadcaster a Laravel application uses, the first that is
// there.
var driverVariables = []string{"BROADCAST_CONNECTION", "BROADCAST_DRIVER"}

// ours tells whether a variable means something to this server.
func ours(name string) bool {
	return strings.HasPrefix(name, "REECHO_") || slices.Contains(driverVariables, name) || isForeign(name)
}

// readEnvFile reads the file of --env-file. It is most often another program's,
// so what is wrong with lines of others stops nothing.
func (l *loader) readEnvFile() {
	// Of the real environment only: the file cannot say where it is.
	path, found := l.path(flagEnvFile, "REECHO_ENV_FILE", l.realEnv)
	if !found {
		return
	}
	text, err := l.read(path)
	if err != nil {
		l.problem("--%s: %w", flagEnvFile, fileError(path, err))
		return
	}
	values, lines, problems := dotenv.Parse(text, l.Env)
	for _, p := range problems {
		names := slices.DeleteFunc(p.Names, func(name string) bool { return !ours(name) })
		if len(names) > 0 {
			l.problem("%s: %w (%s)", path, p, strings.Join(slices.Compact(names), ", "))
		} else {
			l.warn("%s: %v; it is skipped", path, p)
		}
	}
	l.envFile, l.envLines, l.envPath = values, lines, path
	// Names are cut: one may be a line that was broken at the wrong place.
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if strings.HasPrefix(name, "REECHO_") && !known(name) {
			l.warn("%s: %.60s means nothing", path, name)
		}
	}
}

// known tells whether there is a setting of this variable.
func known(name string) bool {
	return name == "REECHO_APPS" || slices.ContainsFunc(Options(), func(o Option) bool { return o.Env == name })
}

// orchestrated is what Kubernetes sets in each container for a service whose name
// begins with reecho, or is that of another server: NAME_PORT=tcp://10.0.0.7:6001 and
// so on.
var orchestrated = regexp.MustCompile(`^(REECHO|REVERB|SOKETI|PUSHER|LARAVEL_WEBSOCKETS)_([A-Z0-9_]+_)?(SERVICE_(HOST|PORT|PORT_[A-Z0-9_]+)=|PORT_[0-9]+_(TCP|UDP)(_(PROTO|PORT|ADDR))?=|PORT=(tcp|udp)://)`)

// checkEnv warns of variables that look like ours and mean nothing, as of those
// of the file.
func (l *loader) checkEnv() {
	if l.Environ == nil {
		return
	}
	for _, pair := range slices.Sorted(slices.Values(l.Environ())) {
		name, value, _ := strings.Cut(pair, "=")
		if value == "" || !strings.HasPrefix(name, "REECHO_") || known(name) || orchestrated.MatchString(pair) {
			continue
		}
		l.warn("the environment: %.60s means nothing", name)
	}
}

// realEnv is a variable of the process. An empty one is unset: that is what
// compose files and charts make of a value that is left out.
func (l *loader) realEnv(name string) (string, bool) {
	text, _ := l.Env(name)
	return text, text != ""
}

// env is an environment variable, or what the env file says.
func (l *loader) env(name string) (string, bool) {
	if text, found := l.realEnv(name); found {
		return text, true
	}
	text := l.envFile[name]
	return text, text != ""
}

// laravelEnv is a variable as Laravel's env() returns it. What stands in the
// real environment is text as it is. A secret of true would be signed with as
// whatever PHP makes of the boolean, which is nothing to guess.
func (l *loader) laravelEnv(name string) (string, bool) {
	if text, found := l.realEnv(name); found {
		return text, true
	}
	text, kind := dotenv.Laravel(l.envFile[name])
	if kind == dotenv.True || kind == dotenv.False {
		l.problem("%s is a word that Laravel reads as true or false and not as text: take another value", name)
		return "", false
	}
	return text, text != ""
}
