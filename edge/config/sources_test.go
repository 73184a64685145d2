package config

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// one is the configuration of one app.
type one struct{ id, key, secret string }

// sources give the same app in every way there is. plain ones are written
// without quotes, as far as the source has any.
var sources = map[string]func(t *testing.T, a one) Source{
	"flags": func(_ *testing.T, a one) Source {
		return source(map[string]string{"app-id": a.id, "app-key": a.key, "app-secret": a.secret}, nil)
	},
	"environment": func(_ *testing.T, a one) Source {
		return source(nil, map[string]string{"REECHO_APP_ID": a.id, "REECHO_APP_KEY": a.key, "REECHO_APP_SECRET": a.secret})
	},
	"Pusher's variables": func(_ *testing.T, a one) Source {
		return source(nil, map[string]string{"PUSHER_APP_ID": a.id, "PUSHER_APP_KEY": a.key, "PUSHER_APP_SECRET": a.secret})
	},
	"env file": func(t *testing.T, a one) Source {
		t.Helper()
		text := fmt.Sprintf("REECHO_APP_ID=%s\nREECHO_APP_KEY=%s\nREECHO_APP_SECRET=%s\n", envQuote(a.id), envQuote(a.key), envQuote(a.secret))
		return source(map[string]string{"env-file": mustWrite(t, ".env", text)}, nil)
	},
	"YAML": func(t *testing.T, a one) Source {
		t.Helper()
		return source(map[string]string{"config": mustWrite(t, "reecho.yaml", "apps:\n  - id: "+a.id+"\n    key: "+a.key+"\n    secret: "+a.secret+"\n")}, nil)
	},
	"quoted YAML": func(t *testing.T, a one) Source {
		t.Helper()
		return source(map[string]string{"config": mustWrite(t, "reecho.yaml", "apps:\n  - "+jsonOf(a)+"\n")}, nil)
	},
	"pairs": func(t *testing.T, a one) Source {
		t.Helper()
		return source(map[string]string{"config": mustWrite(t, "reecho.yaml", "apps: [{id: "+a.id+", credentials: [{key: "+a.key+", secret: "+a.secret+"}]}]\n")}, nil)
	},
	"JSON": func(t *testing.T, a one) Source {
		t.Helper()
		return source(map[string]string{"config": mustWrite(t, "reecho.json", "{\n\t\"apps\": ["+jsonOf(a)+"]}")}, nil)
	},
	"REECHO_APPS, YAML": func(_ *testing.T, a one) Source {
		return source(nil, map[string]string{"REECHO_APPS": "[{id: " + a.id + ", key: " + a.key + ", secret: " + a.secret + "}]"})
	},
	"REECHO_APPS, JSON": func(_ *testing.T, a one) Source {
		return source(nil, map[string]string{"REECHO_APPS": "[" + jsonOf(a) + "]"})
	},
}

func jsonOf(a one) string {
	text, err := json.Marshal(map[string]string{"id": a.id, "key": a.key, "secret": a.secret})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// envQuote writes a value for an env file.
func envQuote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "\r", `\r`, "\t", `\t`, "\n", `\n`, "\v", `\v`).Replace(text) + `"`
}

// What cannot be read is told by file, line and rule. Nothing of the file is
// repeated: it may be the line with the secret, or the one beside it.
func TestProblemsRepeatNoContent(t *testing.T) {
	t.Parallel()
	yamls := []string{
		"apps:\n  - id: 1\n    secret: hunter2\n   key: hunter2\n",
		"apps:\n  - secret: hunter2\n    secret: hunter2\n",
		"apps:\n  - {id: 1, secret: hunter2\nkey: x\n",
		"apps:\n  - secret: \"hunter2\n",
		"apps:\n  - secret: \"hunter2\\q\"\n",
		"apps:\n  - secret: hunter2: hunter2\n",
		"apps:\n  - secret: @hunter2\n",
		"apps:\n  - secret: *hunter2\n",
		"apps:\n  - secret: !hunter2 hunter2\n",
		"apps:\n\t- secret: hunter2\n",
		"apps:\n  - id:1\n    secret:hunter2\n",
		"apps:\n  - {id: 1, key: a, secret, hunter2}\n",
		"apps:\n  - {id: 1, key: a, hunter2: }\n",
		"apps:\n  - id: 1\n    key: a\n    secret:\n      hunter2: x\n",
		"apps:\n  - id: 1\n    key: a\n    secret: [hunter2]\n",
		"apps:\n  - hunter2\n",
		"apps: hunter2\n",
		"hunter2\n",
		"- hunter2\n",
		"apps: []\n---\nsecret: hunter2\n",
		"apps:\n  - secret: hunter2\xff\n",
		"apps:\n  - {id: 1, key: hunter2, secret: x}\n  - {id: 1, key: hunter2, secret: x}\n",
		"apps:\n  - {id: 1, key: hunter2}\n",
		"apps:\n  - secret: |x\n    hunter2\n",
		"%hunter2\n---\na: 1\n",
		"{\"apps\": [{\"secret\": \"hunter2\", \"secret\": \"hunter2\"}]}",
		"{\"apps\": [{\"secret\": \"hunter2\" \"key\": 1}]}",
		"tls_key: |\n  -----BEGIN PRIVATE KEY-----\n  hunter2\ntls_cert: x\n",
		"data_dir: |\n  hunter2\n  x\n",
	}
	var all []Source
	for _, text := range yamls {
		all = append(all, source(map[string]string{"config": mustWrite(t, "reecho.yaml", text)}, nil),
			source(nil, map[string]string{"REECHO_APPS": text}))
	}
	for _, text := range []string{
		"REECHO_APP_SECRET=hunter2 hunter2\n", "DB_PASSWORD=\"hunter2\nREVERB_APP_ID=hunter2\n", "REVERB_APP_SECRET=\"hunter2\" hunter2", `REVERB_APP_SECRET="\hunter2"`,
		"REVERB_APP_KEY hunter2", "REVERB_APP_ID=hunter2\n", "REVERB_APP_SECRET='hunter2\n",
	} {
		all = append(all, source(map[string]string{"env-file": mustWrite(t, ".env", text)}, nil))
	}
	all = append(all,
		source(map[string]string{"config": "secret: hunter2\nx"}, nil), source(map[string]string{"env-file": "A=hunter2\nB=2"}, nil),
		source(nil, map[string]string{"REECHO_TLS_KEY": "-----BEGIN hunter2", "REECHO_TLS_CERT": "x"}),
		source(nil, map[string]string{"REECHO_APPS": "[{hunter2"}),
	)
	for i, s := range all {
		_, err := Load(s)
		if err == nil {
			t.Errorf("source %d: no error", i)
			continue
		}
		if text := err.Error(); strings.Contains(text, "hunter2") || len(text) > 1000 {
			t.Errorf("the error repeats the file:\n%v", err)
		}
	}
	for _, i := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9} {
		_, err := Load(source(map[string]string{"config": mustWrite(t, "reecho.yaml", yamls[i])}, nil))
		if err == nil || !strings.Contains(err.Error(), "reecho.yaml is not valid YAML or JSON: line ") {
			t.Errorf("%q: %v, want file and line", yamls[i], err)
		}
	}
}

// A file's content in the place of its name is not repeated, nor is a long one.
func TestFileErrorsRepeatNoContent(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"REVERB_APP_SECRET=hunter2", `{"apps": [{"secret": "hunter2"}]}`, "[{secret: hunter2}]", "'hunter2'", strings.Repeat("hunter2", 1000),
	} {
		for _, s := range []Source{
			source(map[string]string{"config": path}, nil), source(map[string]string{"env-file": path}, nil),
			source(nil, map[string]string{"REECHO_CONFIG": path}), source(nil, map[string]string{"REECHO_ENV_FILE": path}),
		} {
			if _, err := Load(s); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "what it names") {
				t.Errorf("%.40s: %.200v", path, err)
			}
		}
	}
	if _, err := Load(source(map[string]string{"config": "/nowhere/reecho.yaml"}, nil)); err == nil || !strings.Contains(err.Error(), "open /nowhere/reecho.yaml: ") {
		t.Errorf("got %v, want the name", err)
	}
}

// Variables that mean nothing are warned of in the environment as in a file, by
// name; those of Kubernetes for a service called reecho are none of ours.
func TestUnknownVariables(t *testing.T) {
	t.Parallel()
	s := source(nil, map[string]string{"REECHO_APP_ID": "7", "REECHO_APP_KEY": "k", "REECHO_APP_SECRET": "s"})
	s.Environ = func() []string {
		return []string{
			"REECHO_LISTN=hunter2", "REECHO_PORT=6001", "REECHO_EMPTY=", "PATH=/bin", "REECHO_APP_ID=7", "REECHO_CONFIG=x", "REECHO_ENV_FILE=x", "REECHO_APPS=x",
			"REECHO_SERVICE_HOST=10.0.0.7", "REECHO_SERVICE_PORT=6001", "REECHO_SERVICE_PORT_HTTP=6001", "REECHO_PORT_6001_TCP=tcp://10.0.0.7:6001",
			"REECHO_PORT_6001_TCP_ADDR=10.0.0.7", "REECHO_MAIN_PORT=tcp://10.0.0.7:6001", "REECHO_MAIN_SERVICE_HOST=10.0.0.7",
		}
	}
	c, err := Load(s)
	want := []string{"the environment: REECHO_LISTN means nothing", "the environment: REECHO_PORT means nothing"}
	if diff := cmp.Diff(want, c.Warnings); err != nil || diff != "" {
		t.Errorf("error %v, warnings %s", err, diff)
	}
}

// An empty variable is one that is not there.
func TestEmptyVariables(t *testing.T) {
	t.Parallel()
	env := map[string]string{}
	for _, o := range Options() {
		env[o.Env] = ""
	}
	for _, name := range append(driverVariables, "REECHO_APPS", platformPort) {
		env[name] = ""
	}
	for _, p := range products {
		for _, name := range p.names() {
			env[name] = ""
		}
	}
	file := mustWrite(t, "reecho.yaml", "linger: 7s\nshards:\npath_prefix: ~\napps: [{id: 9, key: f, secret: s, limits: , retention: , allowed_origins: }]")
	envFile := mustWrite(t, ".env", "REECHO_PARTITIONS=7\nREECHO_SHARDS=\nPUSHER_APP_ID=\nPUSHER_APP_KEY=null\nPUSHER_APP_SECRET=(empty)\n")
	c, err := Load(source(map[string]string{"config": file, "env-file": envFile}, env))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Edge.Linger, want.Log.Partitions = 7*time.Second, 7
	want.Apps, want.places = c.Apps, c.places
	if diff := cmp.Diff(fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", c)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"9/f"}, ids(c.Apps)); diff != "" {
		t.Errorf("apps (-want +got):\n%s", diff)
	}
	if c.Apps[0].AllowedOrigins != nil {
		t.Errorf("origins %v", c.Apps[0].AllowedOrigins)
	}
}

// A file that everybody may change gives everybody the secrets.
func TestWritableFiles(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("there are no such permissions")
	}
	file, envFile := mustWrite(t, "reecho.yaml", "linger: 7s"), mustWrite(t, ".env", "A=b")
	for _, path := range []string{file, envFile} {
		if err := os.Chmod(path, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(source(map[string]string{"config": file, "env-file": envFile}, oneApp(nil)))
	if err != nil || len(c.Warnings) != 2 || !strings.Contains(c.Warnings[0], "everybody") {
		t.Errorf("error %v, warnings %q", err, c.Warnings)
	}
}

// Numbers and times beyond any use are refused with the number itself, in every
// source.
func TestNumbers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ key, text, want string }{
		{"retention_bytes", "99999999999GiB", `is "99999999999GiB": more than fits, at most ` + fmt.Sprint(math.MaxInt)},
		{"retention_bytes", "9223372036854775808", `is "9223372036854775808": more than fits`},
		{"replay_memory", "8388608TiB", `is "8388608TiB": should be a number of bytes`},
		{"partitions", "99999999999999999999999", `is "99999999999999999999999": more than fits`},
		{"partitions", "0x10", "should be a whole number"},
		{"partitions", "1e3", "should be a whole number"},
		{"partitions", "-1", "should be a whole number"},
		{"partitions", "1.5", "should be a whole number"},
		{"retention_bytes", "1.5GiB", "should be a number of bytes"},
		{"retention_age", "99999999999999999999", "should be a time like"},
		{"retention_age", "9000000000", "retention_age is 2500000h0m0s: at most 876000h0m0s"},
		{"write_timeout", "2000000h", "write_timeout is 2000000h0m0s: at most 876000h"},
		{"write_timeout", "5ns", "write_timeout is 5ns: at least 1ms"},
		{"sync_interval", "0", "sync_interval is 0s: must be above 0"},
		{"listen", "127.0.0.1:6001\r", `listen is "127.0.0.1:6001\r"`},
		{"log_format", strings.Repeat("x", 500), "…"},
	} {
		for name, s := range map[string]Source{
			"flag":        source(map[string]string{"--": "", strings.ReplaceAll(tt.key, "_", "-"): tt.text}, oneApp(nil)),
			"environment": source(nil, oneApp(map[string]string{"REECHO_" + strings.ToUpper(tt.key): tt.text})),
			"env file":    source(map[string]string{"env-file": mustWrite(t, ".env", "REECHO_"+strings.ToUpper(tt.key)+"="+envQuote(tt.text))}, oneApp(nil)),
			"YAML":        source(map[string]string{"config": mustWrite(t, "reecho.yaml", tt.key+": "+strings.ReplaceAll(fmt.Sprintf("%q", tt.text), `"`, `"`))}, oneApp(nil)),
		} {
			if _, err := Load(s); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 400 {
				t.Errorf("%s: %s %s: %v, want %q", name, tt.key, quote(tt.text), err, tt.want)
			}
		}
	}
	for text, want := range map[string]string{
		"activity_timeout: 500ms": "activity_timeout is 500ms: at least 1s", "allowed_origins: [example.org, example.com/app]": `"example.com/app" never matches`,
		"retention_share: 101": "retention_share is 101: at most 100", "retention_share: 100}, {id: 2, key: l, secret: s": "is 100 percent: leave something for the 1 apps without one",
		"retention_share: 60}, {id: 2, key: l, secret: s, retention_share: 41": "is 101 percent",
		"limits: {event_data_bytes: 99999999999GiB}":                           `event_data_bytes is "99999999999GiB": more than fits`,
	} {
		apps := "[{id: 1, key: k, secret: s, " + text + "}]"
		for name, s := range map[string]Source{
			"YAML": source(map[string]string{"config": mustWrite(t, "reecho.yaml", "apps: "+apps)}, nil), "REECHO_APPS": source(nil, map[string]string{"REECHO_APPS": apps}),
		} {
			if _, err := Load(s); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %s: %v, want %q", name, text, err, want)
			}
		}
	}
}

// Commands beside a server find its data folder where the server does, and need, and
// make, nothing else.
func TestDataDir(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "reecho.yaml")
	if err := os.WriteFile(file, []byte("data_dir: /from/file\ncluster_name: live\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		flags, env map[string]string
		want       string
		fails      bool
	}{
		"default":            {nil, nil, DefaultDataDir, false},
		"environment":        {nil, map[string]string{"REECHO_DATA_DIR": "/from/env"}, "/from/env", false},
		"file":               {map[string]string{"config": file}, nil, "/from/file", false},
		"file, environment":  {map[string]string{"config": file}, map[string]string{"REECHO_DATA_DIR": "/from/env"}, "/from/env", false},
		"file by name":       {nil, map[string]string{"REECHO_CONFIG": file}, "/from/file", false},
		"flag":               {map[string]string{"config": file, "data-dir": "/from/flag"}, nil, "/from/flag", false},
		"empty":              {map[string]string{"data-dir": ""}, nil, "", true},
		"no such file":       {map[string]string{"config": file + "x"}, nil, "", true},
		"of others, ignored": {map[string]string{"data-dir": "/from/flag"}, map[string]string{"REECHO_CLUSTER_SIZE": "9"}, "/from/flag", false},
	} {
		look := func(m map[string]string) func(string) (string, bool) {
			return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
		}
		got, err := DataDir(Source{Flag: look(tt.flags), Env: look(tt.env)})
		if (err != nil) != tt.fails || err == nil && got != tt.want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, tt.want)
		}
	}
}
