package config

import (
	"strings"
	"testing"
)

// An id, a key and a secret are text in every source, whatever they look like.
func TestCredentialsAreText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"0123", "1e5", "1E400", "0x10", "0o17", "0b11", "yes", "no", "on", "true", "False", "null", "Null", "12345678901234567890", "1_000", "1.50", "1.",
		"-5", "+5", ".inf", "-.inf", ".nan", "2024-01-02", "007", "00", "0", "12e03", "y", "9999999999999999999999999999", "=", "<<",
	} {
		for name, make := range sources {
			c, err := Load(make(t, one{text, text, text}))
			if err != nil {
				t.Errorf("%s: %s: %v", name, text, err)
				continue
			}
			got := one{c.Apps[0].ID, c.Apps[0].Key(), c.Apps[0].Credentials[0].Secret}
			if got != (one{text, text, text}) || len(c.Apps) != 1 {
				t.Errorf("%s: %s is read as %v", name, text, got)
			}
		}
	}
	// Numbers of JSON, too, are text as they are written.
	for _, number := range []string{"123", "1e5", "1.50", "-0", "12345678901234567890", "null", "true"} {
		text := `[{"id": ` + number + `, "key": "k", "secret": ` + number + `}]`
		for _, s := range []Source{
			source(nil, map[string]string{"REECHO_APPS": text}),
			source(map[string]string{"config": mustWrite(t, "reecho.json", `{"apps":`+text+`}`)}, nil),
		} {
			c, err := Load(s)
			if err != nil || c.Apps[0].ID != number || c.Apps[0].Credentials[0].Secret != number {
				t.Errorf("%s: %v %v", number, c.Apps, err)
			}
		}
	}
}

// What can only be a slip is named in every source, and not repeated.
func TestCredentialSlips(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"hunter2\r": "ends with a carriage return (control character)", "hunter2\n": "ends with a line feed", "hunter2 ": "ends with a blank",
		" hunter2": "begins with a blank", "hun\tter2": "holds a tab", "hun\x00ter2": "holds the control character U+0000", "hunter2\u00a0": "ends with a blank",
		"\ufeffhunter2": "begins with the invisible character U+FEFF", "hun\x7fter2": "holds the control character U+007F", "hun\u200bter2": "holds the invisible character U+200B",
		`"hunter2"`: "stands in quotes", `'hunter2'`: "stands in quotes", strings.Repeat("hunter2", 200): "is 1400 bytes long: at most 1024",
	} {
		for _, part := range parts {
			for name, make := range sources {
				a := one{"77", "k", "s"}
				switch part {
				case "id":
					a.id = text
				case "key":
					a.key = text
				default:
					a.secret = text
				}
				// Without quotes, YAML drops blanks and quotes itself; JSON
				// has all of these characters, flags and variables no NUL.
				if name == "YAML" || name == "pairs" || name == "REECHO_APPS, YAML" || name == "env file" && strings.Contains(text, "\x00") {
					continue
				}
				_, err := Load(make(t, a))
				if err == nil || !strings.Contains(err.Error(), ": the "+part+" "+want) {
					t.Errorf("%s: %s %q: %v, want %q", name, part, text, err, want)
				}
				if err != nil && strings.Contains(err.Error(), "ter2") {
					t.Errorf("%s: the error repeats it: %v", name, err)
				}
			}
		}
	}
	for _, text := range []string{"a:b", "a/b", "a?b", "a#b", "a b", "a%41", `a\b`, "..", "a\u2003b"} {
		for name, make := range sources {
			if name == "YAML" || name == "pairs" || name == "REECHO_APPS, YAML" {
				continue
			}
			if _, err := Load(make(t, one{"77", text, "s"})); err == nil || !strings.Contains(err.Error(), "the key") {
				t.Errorf("%s: key %q: %v", name, text, err)
			}
		}
	}
	for name, want := range map[string]string{
		"environment": "--app-id, REECHO_APP_ID and so on: the secret", "Pusher's variables": "PUSHER_APP_ID, PUSHER_APP_KEY, PUSHER_APP_SECRET: the secret",
		"JSON": "apps[0]: the secret", "REECHO_APPS, JSON": "REECHO_APPS[0]: the secret",
	} {
		if _, err := Load(sources[name](t, one{"77", "k", "s\r"})); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	// What Laravel signs with is used, and warned of.
	path := mustWrite(t, ".env", "REVERB_APP_ID=7\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=\"hun\\tter2\"\n")
	c, err := Load(source(map[string]string{"env-file": path}, nil))
	if err != nil || c.Apps[0].Credentials[0].Secret != "hun\tter2" || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "the secret holds a tab") ||
		strings.Contains(c.Warnings[0], "ter2") {
		t.Errorf("error %v, warnings %q", err, c.Warnings)
	}
}

// A Laravel .env means here what it means to Laravel, and lines of others stop
// nothing.
func TestLaravelSecrets(t *testing.T) {
	t.Parallel()
	const before = "REVERB_APP_ID=7\nREVERB_APP_KEY=k\n"
	for _, tt := range []struct{ text, secret, warning, problem string }{
		{text: `REVERB_APP_SECRET="s3cr$ET!x"`, secret: "s3cr$ET!x"},
		{text: "REVERB_APP_SECRET=$2y$10$abc", secret: "$2y$10$abc"},
		{text: "REVERB_APP_SECRET=x${NOPE}y", secret: "x${NOPE}y"},
		{text: "REVERB_APP_SECRET=ab#cd", secret: "ab"},
		{text: `REVERB_APP_SECRET="ab\""`, secret: `ab"`},
		{text: `REVERB_APP_SECRET="a\tb"`, secret: "a\tb", warning: "holds a tab"},
		{text: `REVERB_APP_SECRET="'ab'"`, secret: "ab"},
		{text: "X=1\r\nREVERB_APP_SECRET=\"a${X}b\"\r\n", secret: "a1b"},
		{text: "REVERB_APP_SECRET=0123", secret: "0123"},
		{text: "REVERB_APP_SECRET=true", problem: "true or false"},
		{text: "REVERB_APP_SECRET=null", problem: "missing: secret"},
		{text: "REVERB_APP_SECRET=s\nAPP_NAME=My App\n", secret: "s", warning: "line 4: something stands behind the value"},
		{text: "APP_NAME=\"My \"App\nREVERB_APP_SECRET=s\n", secret: "s", warning: "line 3: "},
		{text: "@!nonsense\nREVERB_APP_SECRET=s\n", secret: "s", warning: "line 3: a name is made of"},
		{text: "REVERB_APP_SECRET=s\nAPP_NAME=\"My App\nX=1\n", secret: "s", warning: "lines 4 to 5: "},
		{text: "APP_NAME=\"My App\nREVERB_APP_SECRET=s\n", problem: "lines 3 to 4: "},
		{text: "REVERB_APP_SECRET=a b\n", problem: ".env: line 3: something stands behind the value"},
		{text: "REVERB_APP_SECRET=s\nREECHO_LISTNE=x\n", secret: "s", warning: "REECHO_LISTNE means nothing"},
		{text: "REVERB_APP_SECRET=s\nPUSHER_APP_ID=1\nBROADCAST_CONNECTION=reverb\n", secret: "s"},
		{text: "REVERB_APP_SECRET=s\nPUSHER_APP_ID=1\nBROADCAST_CONNECTION=pusher\n", problem: "missing: key, secret"},
		{text: "REVERB_APP_SECRET \"ab\"\n", problem: "line 3: a name is made of"},
	} {
		path := mustWrite(t, ".env", before+tt.text)
		c, err := Load(source(map[string]string{"env-file": path}, nil))
		if tt.problem != "" {
			if err == nil || !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("%q: %v, want %q", tt.text, err, tt.problem)
			}
			continue
		}
		if err != nil || c.Apps[0].Credentials[0].Secret != tt.secret {
			t.Errorf("%q: error %v, secret %q, want %q", tt.text, err, c.Apps[0].Credentials[0].Secret, tt.secret)
		}
		if warnings := strings.Join(c.Warnings, "\n"); (warnings != "") != (tt.warning != "") || !strings.Contains(warnings, tt.warning) {
			t.Errorf("%q: warnings %q, want %q", tt.text, warnings, tt.warning)
		}
	}
}
