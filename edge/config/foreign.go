package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"reecho/edge/app"
	"reecho/edge/config/dotenv"
)

// foreign gives settings that no flag, no REECHO_ variable and no file gives what the
// variables of other servers say.
type foreign struct {
	*loader
	c *Config
	// given has the variable that gave a setting its value.
	given map[slot]string
	// taken are the variables that were looked at, whatever became of them, and
	// employed those that were used for something.
	taken, employed map[string]bool
	used            []string
	// unused are the variables that mean nothing here, by the reason.
	unused  map[string][]string
	reasons []string // in their order
}

// slot is where a value goes: a setting of the server, or of an app.
type slot struct {
	app     *app.App
	setting string
}

// apps[]. before the key of a setting of an app.
const ofApp = "apps[]."

// readForeign completes c, whose apps are there. What is wrong with a value is a problem;
// what was used and what was not is said in c.
func (l *loader) readForeign(c *Config) {
	f := &foreign{loader: l, c: c, given: map[slot]string{}, taken: map[string]bool{}, employed: map[string]bool{}, unused: map[string][]string{}}
	f.credentials()
	for i := range products {
		f.product(&products[i])
		if products[i].name == "soketi" {
			f.soketiHooks(&products[i])
		}
	}
	f.certificates()
	f.listen()
	f.strangers()
	c.Used = f.used
	for _, reason := range f.reasons {
		c.Unused = append(c.Unused, strings.Join(f.unused[reason], ", ")+" ("+reason+")")
	}
}

// foreignEnv is a variable as the application that it is of reads it: of the real
// environment, or of the file. Words that Laravel, and JSON, take for true and false
// come as these, and what is null is not there.
func (l *loader) foreignEnv(name string) (text string, found bool) {
	text, found = l.realEnv(name)
	if found && orchestrated.MatchString(name+"="+text) {
		return "", false
	}
	if !found {
		text = l.envFile[name]
	}
	text, kind := dotenv.Laravel(text)
	switch kind {
	case dotenv.True:
		return "true", true
	case dotenv.False:
		return "false", true
	}
	return text, text != ""
}

// where names a variable with its file and line, for messages.
func (l *loader) where(name string) string {
	if _, real := l.realEnv(name); real || l.envLines[name] == 0 {
		return name
	}
	return fmt.Sprintf("%s, line %d: %s", l.envPath, l.envLines[name], name)
}

// pass notes that variables mean nothing here, unless they were used for something else;
// without a reason it is not worth a word.
func (f *foreign) pass(reason string, names ...string) {
	for _, name := range names {
		f.taken[name] = true
		// A name is cut: it may be a line that was broken at the wrong place.
		name = fmt.Sprintf("%.60s", name)
		if reason == "" || f.employed[name] || slices.Contains(f.unused[reason], name) {
			continue
		}
		if f.unused[reason] == nil {
			f.reasons = append(f.reasons, reason)
		}
		f.unused[reason] = append(f.unused[reason], name)
	}
}

// use notes what variables were used for.
func (f *foreign) use(what string, names ...string) {
	for _, name := range names {
		f.taken[name], f.employed[name] = true, true
	}
	f.used = append(f.used, what+" ("+strings.Join(names, ", ")+")")
}

// seen are those of the variables that are there.
func (f *foreign) seen(names ...string) []string {
	return slices.DeleteFunc(names, func(name string) bool {
		_, found := f.foreignEnv(name)
		return name == "" || !found
	})
}

// credentials says which apps came of whose variables.
func (f *foreign) credentials() {
	for i := range products {
		p := &products[i]
		if p.app == "" {
			continue
		}
		names := f.seen(p.app+"ID", p.app+"KEY", p.app+"SECRET")
		switch a := f.products[p.name]; {
		case len(names) == 0:
		case a != nil:
			f.use("app "+quoteOdd(a.ID), names...)
		case f.appsFrom != "":
			f.pass(f.appsFrom+" says which apps there are", names...)
		case f.outOfUse(p) != "":
			f.pass(f.outOfUse(p), names...)
		default:
			for i := range products {
				if f.products[products[i].name] != nil {
					f.passFor(products[i].app+"…", names...)
				}
			}
		}
	}
}

// quoteOdd is a text as it is if it looks like an id, else quoted and cut.
func quoteOdd(text string) string {
	if strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/*,") == "" && len(text) <= maxQuoted {
		return text
	}
	return quote(text)
}

// outOfUse is why the variables of a product do not count, "" if they do: Laravel's
// BROADCAST_CONNECTION names another one.
func (l *loader) outOfUse(p *product) string {
	if l.driver == "" || l.driver == p.driver {
		return ""
	}
	return l.driverName + " is " + l.driver
}

// appOf is the app that the limits of a product are for.
func (f *foreign) appOf(p *product) *app.App {
	if p.app != "" && f.products[p.name] != nil {
		return f.products[p.name]
	}
	// Applications name soketi's app, and have that of laravel-websockets, as Pusher's.
	if p.driver == "pusher" {
		return f.products["Pusher"]
	}
	return nil
}

// product goes through a product's table.
func (f *foreign) product(p *product) {
	for i := range p.variables {
		v := &p.variables[i]
		if family, all := strings.CutSuffix(v.name, "*"); all {
			f.pass(v.unused, f.namesOf(family)...)
			continue
		}
		text, found := f.foreignEnv(v.name)
		if !found || v.does != "" {
			continue
		}
		on := v.when == "" || f.isTrue(v.when)
		switch {
		case len(v.sets) == 0 && !on:
			f.taken[v.name] = true // what is off needs no word
		case len(v.sets) == 0:
			f.pass(v.unused, v.name)
		case f.outOfUse(p) != "":
			f.pass(f.outOfUse(p), v.name)
		case !on:
			f.pass(v.when+" is not true", v.name)
		default:
			f.apply(p, v, text)
		}
	}
}

func (f *foreign) isTrue(name string) bool {
	text, _ := f.foreignEnv(name)
	return text == "true"
}

// apply gives settings what a variable says.
func (f *foreign) apply(p *product, v *variable, text string) {
	f.taken[v.name] = true
	var did []string
	for _, m := range v.sets {
		to := slot{setting: m.setting}
		if key, isApp := strings.CutPrefix(m.setting, ofApp); isApp {
			if to = (slot{f.appOf(p), key}); to.app == nil {
				f.pass(f.noApp(p), v.name)
				return
			}
		}
		value, err := text, error(nil)
		if m.read != nil {
			value, err = m.read(text)
		}
		var over passError
		switch {
		case errors.As(err, &over):
			f.pass(string(over), v.name)
			return
		case err != nil:
			f.problem("%s is %s: %w", f.where(v.name), quote(text), err)
			return
		case value == "":
			continue
		}
		done, ok := f.set(to, value, v, m.raises)
		if !ok {
			return
		}
		if done {
			did = append(did, m.setting+"="+quoteOdd(value))
		}
	}
	if len(did) > 0 {
		f.use(strings.Join(did, ", "), v.name)
	}
}

func (f *foreign) noApp(p *product) string {
	if f.appsFrom != "" {
		return f.appsFrom + " says which apps there are, and their limits"
	}
	return "there is no app of " + p.name
}

// set gives a setting a value unless something that counts more has. It reports
// whether it did, and false if the variable is done with.
func (f *foreign) set(to slot, value string, v *variable, raises bool) (did, ok bool) {
	if where, own := f.own[to.setting]; own && to.app == nil {
		if !raises {
			f.pass(where+" says it", v.name)
		}
		return false, raises
	}
	target, row := f.target(to)
	if raises && !larger(target, value) {
		return false, true
	}
	if by := f.given[to]; by != "" && by != v.when && !raises {
		f.pass(by+" says it", v.name)
		return false, false
	}
	// Half a value would be a second problem for Validate.
	held := reflect.ValueOf(target).Elem()
	before := reflect.New(held.Type()).Elem()
	before.Set(held)
	err := assign(target, value)
	if err == nil {
		err = checkRange(to.setting, target, row.positive)
	}
	if err != nil {
		held.Set(before)
		f.problem("%s: %w", f.where(v.name), err)
		return false, false
	}
	f.given[to] = v.name
	return true, true
}

// larger tells whether a number of bytes is more than a setting has.
func larger(target any, value string) bool {
	var n byteSize
	have, is := target.(*byteSize)
	return is && assign(&n, value) == nil && n > *have
}

// target is where the value of a setting goes.
func (f *foreign) target(to slot) (target any, row option) {
	if to.app == nil {
		return find(settings, to.setting, f.c)
	}
	if key, limit := strings.CutPrefix(to.setting, "limits."); limit {
		return find(limitSettings, key, &to.app.Limits)
	}
	return find(appSettings, to.setting, to.app)
}

// option is what of a row does not depend on its table.
type option struct{ positive bool }

func find[T any](table []setting[T], key string, in *T) (any, option) {
	i := slices.IndexFunc(table, func(s setting[T]) bool { return s.key == key })
	if i < 0 {
		panic("no setting " + key) // products names one that is none
	}
	return table[i].bind(in), option{table[i].positive}
}

// namesOf are the variables that begin with a text, in the file and the environment.
func (f *foreign) namesOf(prefix string) []string {
	var names []string
	for name := range f.envFile {
		names = append(names, name)
	}
	if f.Environ != nil {
		for _, pair := range f.Environ() {
			name, _, _ := strings.Cut(pair, "=")
			names = append(names, name)
		}
	}
	names = f.seen(slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) })...)
	slices.Sort(names)
	return slices.Compact(names)
}

// strangers are variables of other servers that nobody here has heard of.
func (f *foreign) strangers() {
	for i := range products {
		for _, name := range f.namesOf(products[i].prefix) {
			if !f.taken[name] {
				f.pass("unknown here", name)
			}
		}
	}
}

// isForeign tells whether a variable of another server means something here.
func isForeign(name string) bool {
	return slices.ContainsFunc(products, func(p product) bool { return slices.Contains(p.names(), name) })
}

// readPort reads the number of a port.
func readPort(text string) (string, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || text[0] == '+' {
		return "", errors.New("should be the number of a port, 1 to 65535")
	}
	return strconv.FormatUint(n, 10), nil
}
