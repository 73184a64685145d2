package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/broker/natsd"
)

// place is a position as a client keeps it.
type place struct {
	channel, epoch, run string
	sequence            uint64
}

// end is the place of a channel's newest event.
func end(t *testing.T, b *broker.Broker, channel string) place {
	t.Helper()
	log := b.Log(broker.Ref{App: "app-1", Channel: channel})
	ev, ok, err := log.Last(t.Context())
	if err != nil || !ok {
		t.Fatalf("the newest event of %s: found %v, %v", channel, ok, err)
	}
	return place{channel, log.Epoch(), log.Runs().Current(), ev.Sequence}
}

// knows reports whether a place is one that the log gave.
func knows(b *broker.Broker, p place) bool {
	log := b.Log(broker.Ref{App: "app-1", Channel: p.channel})
	return log.Epoch() == p.epoch && log.Runs().Gave(p.run, p.sequence)
}

func wantKnown(t *testing.T, b *broker.Broker, want bool, places ...place) {
	t.Helper()
	for _, p := range places {
		if got := knows(b, p); got != want {
			t.Errorf("%+v is known: %v, want %v", p, got, want)
		}
	}
}

// publishMany stores the events from to to-1 and returns the place of the last.
func publishMany(t *testing.T, b *broker.Broker, channel string, from, to int) place {
	t.Helper()
	for i := from; i < to; i++ {
		mustPublish(t, b, record(channel, fmt.Sprint(i)))
	}
	return end(t, b, channel)
}

func mustCopy(t *testing.T, from string) (to string) {
	t.Helper()
	to = filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// openLogging is brokertest.Open with what is said.
func openLogging(t *testing.T, dir string, cfg broker.Config) (b *broker.Broker, said func() string, stop func()) {
	t.Helper()
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	server, err := natsd.Start(t.Context(), natsd.Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if b, err = broker.New(t.Context(), cfg, server, !server.Trusted(), log); err != nil {
		t.Fatal(err)
	}
	return b, text.String, func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := server.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}

// startQuietly starts a broker over a folder until the test ends. It knows the places
// and has nothing to tell.
func startQuietly(t *testing.T, dir string, cfg broker.Config, places ...place) *broker.Broker {
	t.Helper()
	b, said, stop := openLogging(t, dir, cfg)
	t.Cleanup(stop)
	wantKnown(t, b, true, places...)
	if said() != "" {
		t.Errorf("said %s", said())
	}
	return b
}

// Restarts keep every place, also of runs in which nothing was stored, and a copy
// of a folder that is in use is what a killed server leaves.
func TestPlacesOutliveRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var places []place
	for i := range 6 {
		b, stop := brokertest.Open(t, dir, broker.Config{})
		wantKnown(t, b, true, places...)
		if i%3 < 2 {
			places = append(places, publishMany(t, b, "match.1", 10*i, 10*i+5))
		}
		places = append(places, end(t, b, "match.1"))
		if i%2 == 1 {
			dir = mustForgetBirth(t, mustCopy(t, dir))
		}
		stop()
	}
}

// Where the system does not tell that a folder is a copy, it still says that it never
// gave what was given after it was
// made, also when it has given the same sequences again; whether the server ran
// while it was made, or not, and was started again since. Seen: who had 100 more
// events than the copy was told that nothing was missing.
func TestCopyPutBack(t *testing.T) {
	t.Parallel()
	for name, running := range map[string]bool{"of a folder in use": true, "of a closed folder": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			b, stop := brokertest.Open(t, dir, broker.Config{Partitions: 1})
			before := publishMany(t, b, "match.1", 0, 20)
			var copied string
			if running {
				copied = mustCopy(t, dir)
			} else {
				stop()
				copied = mustCopy(t, dir)
				b, stop = brokertest.Open(t, dir, broker.Config{Partitions: 1})
			}
			lost := []place{publishMany(t, b, "match.1", 20, 40)}
			stop()
			b, stop = brokertest.Open(t, dir, broker.Config{Partitions: 1})
			lost = append(lost, end(t, b, "match.1"), publishMany(t, b, "match.1", 40, 60))
			stop()
			for range 2 {
				again := mustForgetBirth(t, mustCopy(t, copied))
				b, stop = brokertest.Open(t, again, broker.Config{Partitions: 1})
				wantKnown(t, b, true, before)
				wantKnown(t, b, false, lost...)
				lost = append(lost, publishMany(t, b, "match.1", 20, 100))
				wantKnown(t, b, false, lost[:len(lost)-1]...)
				wantKnown(t, b, true, before, lost[len(lost)-1])
				stop()
				b, stop = brokertest.Open(t, again, broker.Config{Partitions: 1})
				wantKnown(t, b, true, before, lost[len(lost)-1])
				wantKnown(t, b, false, lost[:len(lost)-1]...)
				stop()
			}
		})
	}
}

// Who has a position that a copy gave, too, may have missed what was stored after it
// was made: no position outlives a copy. Seen: such a client was told that nothing
// was missing.
func TestCopyIsAnotherLog(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the system does not tell when a folder was made")
	}
	dir := t.TempDir()
	b, stop := brokertest.Open(t, dir, broker.Config{Partitions: 1})
	before := publishMany(t, b, "match.1", 0, 20)
	copied := mustCopyWithTimes(t, dir)
	publishMany(t, b, "match.1", 20, 40)
	stop()
	b, said, stop := openLogging(t, copied, broker.Config{Partitions: 1})
	wantKnown(t, b, false, before)
	if strings.Count(said(), "the data folder is a copy") != 1 {
		t.Errorf("said %s", said())
	}
	after := end(t, b, "match.1")
	stop()
	startQuietly(t, copied, broker.Config{Partitions: 1}, after)
}

// What describes a stream is damaged: the stream is lost once, and not again at each
// start, as it was while the damage stayed.
func TestDamagedDescription(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, stop := brokertest.Open(t, dir, broker.Config{Partitions: 1})
	before := publishMany(t, b, "match.1", 0, 20)
	stop()
	if err := os.WriteFile(filepath.Join(msgs(dir), "..", "meta.inf"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, said, stop := openLogging(t, dir, broker.Config{Partitions: 1})
	wantKnown(t, b, false, before)
	if strings.Count(said(), "has lost events that were stored") != 1 {
		t.Errorf("said %s", said())
	}
	after := publishMany(t, b, "match.1", 0, 5)
	stop()
	if _, err := os.Stat(filepath.Join(dir, "damaged", "EVENTS-0", "meta.inf")); err != nil {
		t.Errorf("what was there is not kept: %v", err)
	}
	wantEvents(t, startQuietly(t, dir, broker.Config{Partitions: 1}, after), "match.1", 5)
}

// A data folder of a time that knew no runs is gone on with: what was given then
// is known, and nothing that was not.
func TestDataWithoutRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, stop := brokertest.Open(t, dir, broker.Config{Partitions: 1})
	old := publishMany(t, b, "match.1", 0, 20)
	old.run = ""
	stop()
	server, err := natsd.Start(t.Context(), natsd.Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "EVENTS-0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	delete(cfg.Metadata, "reecho-runs")
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	if err := server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b, stop = brokertest.Open(t, dir, broker.Config{Partitions: 1})
		wantKnown(t, b, true, old)
		wantKnown(t, b, false, place{old.channel, old.epoch, "", old.sequence + 1})
		publishMany(t, b, "match.1", 20, 40)
		stop()
	}
}

// What is retained is proved by the bounds that are in force, so places are void
// where they were lower before, or nothing was retained; they are kept where
// bounds became lower.
func TestBoundsThatChanged(t *testing.T) {
	t.Parallel()
	off := []broker.Rule{{App: "app-1", Channels: "match.*", Off: true}}
	own := []broker.Rule{{App: "app-1", Channels: "match.*", EventsPerChannel: 20}}
	two := append(own[:1:1], broker.Rule{App: "app-1", Channels: "match.1"})
	base := broker.Config{Partitions: 1, EventsPerChannel: 50, MaxAge: time.Hour, MaxBytes: 8 << 20}
	with := func(edit func(*broker.Config)) broker.Config { c := base; edit(&c); return c }
	for name, tt := range map[string]struct {
		cfgs []broker.Config // the first and the last with match.1 in the same stream
		want bool
	}{
		"the same":                 {[]broker.Config{base, base, base}, true},
		"more events":              {[]broker.Config{base, with(func(c *broker.Config) { c.EventsPerChannel = 51 })}, false},
		"fewer events":             {[]broker.Config{base, with(func(c *broker.Config) { c.EventsPerChannel = 49 })}, true},
		"fewer, and more again":    {[]broker.Config{base, with(func(c *broker.Config) { c.EventsPerChannel = 5 }), base}, false},
		"older":                    {[]broker.Config{base, with(func(c *broker.Config) { c.MaxAge = 2 * time.Hour })}, false},
		"younger":                  {[]broker.Config{base, with(func(c *broker.Config) { c.MaxAge = time.Minute })}, true},
		"more bytes":               {[]broker.Config{base, with(func(c *broker.Config) { c.MaxBytes = 9 << 20 })}, false},
		"fewer bytes":              {[]broker.Config{base, with(func(c *broker.Config) { c.MaxBytes = 7 << 20 })}, true},
		"fewer bytes, more events": {[]broker.Config{base, with(func(c *broker.Config) { c.MaxBytes, c.EventsPerChannel = 7<<20, 51 })}, false},
		"a rule came":              {[]broker.Config{base, with(func(c *broker.Config) { c.Rules = own })}, false},
		"a rule that is there":     {[]broker.Config{with(func(c *broker.Config) { c.Rules = own }), with(func(c *broker.Config) { c.Rules = own })}, true},
		"a rule went and came back": {[]broker.Config{
			with(func(c *broker.Config) { c.Rules = own }), base, with(func(c *broker.Config) { c.Rules = own }),
		}, false},
		"off for a while, by a rule of its own": {[]broker.Config{
			with(func(c *broker.Config) { c.Rules = own }), with(func(c *broker.Config) { c.Rules = off }), with(func(c *broker.Config) { c.Rules = own }),
		}, false},
		"a rule came and went": {[]broker.Config{base, with(func(c *broker.Config) { c.Rules = own }), base}, false},
		"a rule for others came": {[]broker.Config{base, with(func(c *broker.Config) {
			c.Rules = []broker.Rule{{App: "app-1", Channels: "chat.*"}, {App: "app-2", Channels: "*"}}
		})}, true},
		"a rule behind its own came": {[]broker.Config{with(func(c *broker.Config) { c.Rules = own }), with(func(c *broker.Config) {
			c.Rules = append(own[:1:1], broker.Rule{App: "app-1", Channels: "*"})
		}), with(func(c *broker.Config) { c.Rules = own })}, true},
		"a rule before its own came and went": {[]broker.Config{with(func(c *broker.Config) { c.Rules = own }), with(func(c *broker.Config) {
			c.Rules = append([]broker.Rule{{App: "app-1", Channels: "*"}}, own...)
		}), with(func(c *broker.Config) { c.Rules = own })}, false},
		"rules changed places and back": {[]broker.Config{with(func(c *broker.Config) { c.Rules = two }), with(func(c *broker.Config) {
			c.Rules = []broker.Rule{two[1], two[0]}
		}), with(func(c *broker.Config) { c.Rules = two })}, false},
		"off and on again": {[]broker.Config{base, with(func(c *broker.Config) { c.Rules = off }), base}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var p place
			for i, cfg := range tt.cfgs {
				b, stop := brokertest.Open(t, dir, cfg)
				switch i {
				case 0:
					p = publishMany(t, b, "match.1", 0, 10)
				case len(tt.cfgs) - 1:
					wantKnown(t, b, tt.want, p)
				default:
					mustPublish(t, b, record("match.1", "meanwhile"))
				}
				stop()
			}
		})
	}
}

func msgs(dir string) string {
	return filepath.Join(dir, "nats", "jetstream", "$G", "streams", "EVENTS-0", "msgs")
}

// A log that has not all that it had says so, and nobody is told that nothing is
// missing: whatever was done to its files while the server did not run.
func TestDamage(t *testing.T) {
	t.Parallel()
	cfg := broker.Config{Partitions: 1, EventsPerChannel: 300}
	dir := t.TempDir()
	b, stop := brokertest.Open(t, dir, cfg)
	frame := strings.Repeat("x", 60_000)
	for range 300 { // three files
		mustPublish(t, b, record("match.1", frame))
	}
	for i := range 310 { // and holes: the channel is at its limit
		mustPublish(t, b, record("chat", fmt.Sprint(i)))
	}
	p := end(t, b, "chat")
	poll(t, "files that are filled are known", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "streams.json"))
		return err == nil && strings.Contains(string(text), `"2.blk"`)
	})
	killed := mustCopyWithTimes(t, dir)
	stop()

	edit := func(block string, edit func(text []byte) []byte) func(string) error {
		return func(dir string) error {
			path := filepath.Join(msgs(dir), block)
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, edit(text), 0o600)
		}
	}
	flip := func(text []byte) []byte { text[len(text)/2] ^= 0xff; return text }
	cut := func(text []byte) []byte { return text[:len(text)/2] }
	empty := func([]byte) []byte { return nil }
	remove := func(names ...string) func(string) error {
		return func(dir string) error {
			for _, name := range names {
				if err := os.RemoveAll(filepath.Join(msgs(dir), name)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	both := func(a, b func(string) error) func(string) error {
		return func(dir string) error {
			if err := a(dir); err != nil {
				return err
			}
			return b(dir)
		}
	}
	// rot is a change that leaves the time of the file, as a disk does.
	rot := func(block string, harm func(text []byte) []byte) func(string) error {
		return func(dir string) error {
			path := filepath.Join(msgs(dir), block)
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			return errors.Join(edit(block, harm)(dir), os.Chtimes(path, info.ModTime(), info.ModTime()))
		}
	}
	for name, tt := range map[string]struct {
		from string
		harm func(dir string) error
		want bool
	}{
		"none":                         {dir, remove(), true},
		"none, after a kill":           {killed, remove(), true},
		"no index":                     {dir, remove("index.db"), true},
		"a flipped byte in the middle": {dir, edit("2.blk", flip), false},
		"a flipped byte at the end":    {dir, edit("3.blk", flip), false},
		"a file cut in the middle":     {dir, edit("2.blk", cut), false},
		"the last file cut":            {dir, edit("3.blk", cut), false},
		"an emptied file":              {dir, edit("2.blk", empty), false},
		"the last file emptied":        {dir, edit("3.blk", empty), false},
		"the first file gone":          {dir, remove("1.blk"), false},
		"a file gone":                  {dir, remove("2.blk"), false},
		"the last file gone":           {dir, remove("3.blk"), false},
		"a file and the index gone":    {dir, remove("2.blk", "index.db"), false},
		"the last and the index gone":  {dir, remove("3.blk", "index.db"), false},
		"flipped, and no index":        {dir, both(edit("3.blk", flip), remove("index.db")), false},
		"a copy without times":         {"", remove(), true},
		"a file of that gone":          {"", remove("2.blk"), false},
		"all files gone":               {dir, remove("."), false},

		"the last cut, after a kill":       {killed, edit("3.blk", cut), false},
		"a few bytes cut, after a kill":    {killed, edit("3.blk", func(text []byte) []byte { return text[:len(text)-9] }), false},
		"the last flipped, after a kill":   {killed, edit("3.blk", flip), false},
		"the last gone, after a kill":      {killed, remove("3.blk"), false},
		"the last emptied, after a kill":   {killed, edit("3.blk", empty), false},
		"the middle flipped, after a kill": {killed, edit("2.blk", flip), false},
		"the middle cut, after a kill":     {killed, edit("2.blk", cut), false},
		"the middle emptied, after a kill": {killed, edit("2.blk", empty), false},
		"the middle gone, after a kill":    {killed, remove("2.blk"), false},
		"the first gone, after a kill":     {killed, remove("1.blk"), false},
		"no index, after a kill":           {killed, remove("index.db"), true},
		"gone with index, after a kill":    {killed, remove("2.blk", "index.db"), false},
		"rot in the middle, after a kill":  {killed, rot("2.blk", flip), false},
		"rot at the end, after a kill":     {killed, rot("3.blk", flip), false},
		"the stream gone, after a kill":    {killed, remove(".."), false},
		"a part of a record more":          {killed, edit("3.blk", func(text []byte) []byte { return append(text, text[:20]...) }), true},
		"the stream gone":                  {dir, remove(".."), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var copied string
			if tt.from == "" {
				copied = mustCopy(t, dir)
			} else {
				copied = mustCopyWithTimes(t, tt.from)
			}
			if err := tt.harm(mustForgetBirth(t, copied)); err != nil {
				t.Fatal(err)
			}
			b, said, stop := openLogging(t, copied, cfg)
			wantKnown(t, b, tt.want, p)
			if n := strings.Count(said(), "lost events that were stored"); (n == 0) != tt.want || n > 1 {
				t.Errorf("%d lines tell of it:\n%s", n, said())
			}
			after := publishMany(t, b, "chat", 0, 1)
			stop()
			startQuietly(t, copied, cfg, after)
		})
	}
}

// mustForgetBirth makes a data folder one of a system that does not tell when a folder
// was made, so that a copy is not known to be one.
func mustForgetBirth(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "streams.json")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`"born":\d+,`).ReplaceAll(text, nil)
	if err := errors.Join(os.WriteFile(path, text, 0o600), os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mustCopyWithTimes(t *testing.T, from string) (to string) {
	t.Helper()
	to = mustCopy(t, from)
	err := filepath.WalkDir(from, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return os.Chtimes(filepath.Join(to, strings.TrimPrefix(path, from)), info.ModTime(), info.ModTime())
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// A stream whose events have all expired goes on where it was after a kill.
func TestEmptyStreamAfterAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := broker.Config{Partitions: 1, MaxAge: broker.MinAge}
	b, stop := brokertest.Open(t, dir, cfg)
	p := publishMany(t, b, "chat", 0, 20)
	poll(t, "the events expire", func() bool {
		_, found, err := b.Log(broker.Ref{App: "app-1", Channel: "chat"}).Last(t.Context())
		return err == nil && !found
	})
	poll(t, "what nats-server removed is known", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "streams.json"))
		return err == nil && !strings.Contains(string(text), `.blk"`)
	})
	killed := mustForgetBirth(t, mustCopyWithTimes(t, dir))
	stop()
	b = startQuietly(t, killed, cfg, p)
	if after := publishMany(t, b, "chat", 0, 1); after.sequence <= p.sequence {
		t.Errorf("sequence %d is given after %d", after.sequence, p.sequence)
	}
}

// What is stored behind damage is there at the next start: it was lost with it then,
// when nats-server came to read the file.
func TestDamageIsTakenOutAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, stop := brokertest.Open(t, dir, broker.Config{Partitions: 1})
	publishMany(t, b, "match.1", 0, 1)
	stop()
	block := filepath.Join(msgs(dir), "1.blk")
	text, err := os.ReadFile(block)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 0xff
	if err := os.WriteFile(block, text, 0o600); err != nil {
		t.Fatal(err)
	}
	b, said, stop := openLogging(t, dir, broker.Config{Partitions: 1})
	if strings.Count(said(), "has lost events that were stored") != 1 {
		t.Errorf("said %s", said())
	}
	after := publishMany(t, b, "match.1", 0, 5)
	stop()
	wantEvents(t, startQuietly(t, dir, broker.Config{Partitions: 1}, after), "match.1", 5)
}
