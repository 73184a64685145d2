package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"reecho/broker/operator"
)

// runs gives a command line to a folder and returns what came of it.
func runs(t *testing.T, dir string, args ...string) (status int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	none := func(string) (string, bool) { return "", false }
	status = Cluster(context.Background(), args, Program{
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Env: none,
		Flag: func(name string) (string, bool) { return dir, name == "data-dir" },
	})
	return status, stdout.String(), stderr.String()
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, tt := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"--help"}, 0, "rescue"},
		{[]string{"status", "--help"}, 0, "reecho cluster COMMAND"},
		{nil, exitUsage, "which command of cluster?"},
		{[]string{"bogus"}, exitUsage, `cluster has no command "bogus"`},
		{[]string{"status", "now"}, exitUsage, "cluster status has 1 arguments, use: reecho cluster status"},
		{[]string{"replace"}, exitUsage, "use: reecho cluster replace NAME [NEW]"},
		{[]string{"scale", "many"}, exitUsage, `"many" is no number of nodes`},
		{[]string{"status", "--bogus"}, exitUsage, "-bogus"},
		{[]string{"status", "--timeout", "soon"}, exitUsage, "timeout"},
		{[]string{"status", "--config", "/does/not/exist"}, exitUsage, "no such file"},
		{[]string{"status"}, exitFailure, "is not the folder of a node of a cluster"},
		{[]string{"remove", "n1", "--data-dir", filepath.Join(dir, "other"), "--confirm", "x"}, exitFailure, "there is no folder"},
		{[]string{"export", "--data-dir", filepath.Join(dir, "other"), "file"}, exitFailure, "there is no data folder"},
		{[]string{"export", "file"}, exitFailure, "there are no events in"},
		{[]string{"import", "file"}, exitFailure, "is not the folder of a node of a cluster"},
	} {
		status, out, errs := runs(t, dir, tt.args...)
		if status != tt.status || !strings.Contains(out+errs, tt.says) {
			t.Errorf("%v: status %d, want %d and %q:\n%s%s", tt.args, status, tt.status, tt.says, out, errs)
		}
	}
}

// Scripts read an error as JSON, too.
func TestErrorAsJSON(t *testing.T) {
	t.Parallel()
	status, out, _ := runs(t, t.TempDir(), "export", "file", "--json")
	var answer struct {
		Error   string `json:"error"`
		Refused bool   `json:"refused"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil || status != exitFailure || !answer.Refused || answer.Error == "" {
		t.Errorf("status %d: got %s, %v", status, out, err)
	}
}

// What is no terminal gets a line for each change, and no other.
func TestLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := newLines(&out)
	for range 3 {
		l.Say("copying")
		l.Count(1, 2)
	}
	l.Say("waiting")
	l.Count(2, 2)
	l.clear()
	if got := out.String(); got != "copying\nwaiting\n" {
		t.Errorf("got %q", got)
	}
}

func TestBar(t *testing.T) {
	t.Parallel()
	for done, want := range map[int64]string{
		0:   "[..............................]   0 % ",
		50:  "[###############...............]  50 % ",
		100: "[##############################] 100 % ",
		120: "[##############################] 100 % ",
	} {
		if got := bar(done, 100); got != want {
			t.Errorf("%d: got %q, want %q", done, got, want)
		}
	}
	var out bytes.Buffer
	l := &lines{out: &out, terminal: true}
	l.Say("copying\nmore")
	l.Count(100, 100)
	l.clear()
	if got := out.String(); !strings.Contains(got, "] 100 % copying") || strings.Contains(got, "\n") || !strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("got %q", got)
	}
}

func TestShowStatus(t *testing.T) {
	t.Parallel()
	s := &operator.Status{
		Cluster: "live", Problems: []string{"node b does not answer"}, Copies: 3,
		Nodes: []operator.Node{
			{Name: "a", Member: true, Alive: true, Ready: true, Current: true, Leads: 1, NATS: "2.15.2"},
			{Name: "b", Member: true},
			{Name: "c", Alive: true},
			{Name: "d", Member: true, Alive: true},
			{Name: "e", Member: true, Alive: true, Ready: true},
		},
		Streams: []operator.Stream{{Name: "EVENTS-0", Leader: "a", Replicas: 3, Events: 7, Copies: []operator.Copy{
			{Node: "a", Alive: true, Current: true}, {Node: "b"}, {Node: "e", Alive: true, Lag: 12},
		}}},
	}
	var out bytes.Buffer
	showStatus(&out, s)
	got := strings.Join(strings.Fields(out.String()), " ")
	want := "Cluster live is NOT healthy: - node b does not answer NODE STATE LEADS NATS a ready 1 2.15.2 b gone 0 c joining 0 d not ready 0 e behind 0 " +
		"STREAM LEADER COPIES EVENTS BYTES BEHIND EVENTS-0 a 1 of 3 7 0 b gone, e by 12"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Nothing is confirmed by somebody who is not asked, nor for another cluster.
func TestConfirm(t *testing.T) {
	t.Parallel()
	for confirm, want := range map[string]string{"live": "", "test": `--confirm says "test", and this is cluster "live"`, "": "--confirm live"} {
		var errs bytes.Buffer
		c := &cluster{Program: Program{Stdin: strings.NewReader("live\n"), Stderr: &errs}, confirm: confirm, lines: newLines(&errs)}
		err := c.ask("live", "All is gone then.")
		if want == "" && err != nil || want != "" && (!errors.Is(err, operator.ErrRefused) || !strings.Contains(err.Error(), want)) {
			t.Errorf("--confirm %q: got %v, want %q", confirm, err, want)
		}
		if !strings.Contains(errs.String(), "All is gone then.") {
			t.Errorf("it is not said what is done: %q", errs.String())
		}
	}
}
