// Command stutter makes a build of reecho that sleeps at random when it enters a
// function: what is right on a machine with time to spare only, in the server or in its
// tests, shows within minutes. Nothing in the repository changes; Go is told of the
// other files by an overlay.
//
//	go run ./scripts/stutter -rate 0.02 -most 20ms /tmp/stutter
//	export GOFLAGS='-overlay=/tmp/stutter/overlay.json -vet=off'
//	go test ./replay
//	scripts/e2e/run ./replay.test.mjs
//
// With the race detector and for whole servers 0.004 and 10ms are enough: what fails
// then because it is slow, as hostile.test.mjs does, says nothing. Linux only.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// sleeper is the package that is called: the thread sleeps, so that virtual time
// (testing/synctest) stands still. A place that is called often sleeps more and more
// seldom.
const sleeper = `// Package stutter sleeps.
package stutter

import (
	"math/rand/v2"
	"sync/atomic"
	"syscall"
)

const often = 3000

var calls [%d]atomic.Uint64

// At sleeps now and then.
func At(place int) {
	n := max(often, calls[place].Add(1))
	if rand.Float64() < %g*often/float64(n) {
		t := syscall.NsecToTimespec(1 + rand.Int64N(%d))
		_ = syscall.Nanosleep(&t, nil)
	}
}
`

const sleeperPath = "broker/stutter"

func main() {
	rate := flag.Float64("rate", 0.02, "the share of calls that sleep")
	most := flag.Duration("most", 20*time.Millisecond, "how long at most")
	flag.Parse()
	if flag.NArg() != 1 || *rate <= 0 || *rate > 1 || *most <= 0 {
		fmt.Fprintln(os.Stderr, "usage: go run ./scripts/stutter [-rate 0.02] [-most 20ms] FOLDER\nin the repository's own folder; FOLDER is made, and is to be outside of it")
		os.Exit(2)
	}
	dir, err := filepath.Abs(flag.Arg(0))
	places := 0
	if err == nil {
		places, err = build(dir, *rate, *most)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "stutter: %v\n", err)
		os.Exit(1)
	}
	fmt.Printf("%d places: export GOFLAGS='-overlay=%s -vet=off'\n", places, overlayOf(dir))
}

func overlayOf(dir string) string { return filepath.Join(dir, "overlay.json") }

// build writes the files and the overlay into a folder, whose path is absolute.
func build(dir string, rate float64, most time.Duration) (places int, err error) {
	root, err := os.Getwd()
	if err != nil {
		return 0, fmt.Errorf("find the repository: %w", err)
	}
	replaced := make(map[string]string)
	write := func(name string, text []byte) error {
		to := filepath.Join(dir, name)
		replaced[filepath.Join(root, name)] = to
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		return os.WriteFile(to, text, 0o600)
	}
	for _, top := range []string{"broker", "edge", "replay"} {
		err = filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata"):
				return filepath.SkipDir
			case d.IsDir() || filepath.Ext(name) != ".go":
				return nil
			}
			text, n, err := stutter(name, places)
			if err != nil || n == 0 {
				return err
			}
			places += n
			return write(name, text)
		})
		if err != nil {
			return 0, err
		}
	}
	if err := write(filepath.Join(sleeperPath, "stutter.go"), fmt.Appendf(nil, sleeper, places, rate, most.Nanoseconds())); err != nil {
		return 0, err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		return 0, fmt.Errorf("write the overlay: %w", err)
	}
	return places, os.WriteFile(overlayOf(dir), overlay, 0o600)
}

// stutter is a file with a call at the beginning of each function, the places of which
// are counted from first. Lines stay where they are.
func stutter(name string, first int) (text []byte, places int, err error) {
	text, err = os.ReadFile(name) //nolint:gosec // a file of the repository
	if err != nil {
		return nil, 0, fmt.Errorf("read a file: %w", err)
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, text, parser.SkipObjectResolution)
	if err != nil {
		return nil, 0, fmt.Errorf("parse a file: %w", err)
	}
	var at []int
	ast.Inspect(file, func(n ast.Node) bool {
		var body *ast.BlockStmt
		switch f := n.(type) {
		case *ast.FuncDecl:
			if f.Name.Name != "init" {
				body = f.Body
			}
		case *ast.FuncLit:
			body = f.Body
		}
		if body != nil && len(body.List) > 0 {
			at = append(at, files.Position(body.Lbrace).Offset+1)
		}
		return true
	})
	if len(at) == 0 {
		return nil, 0, nil
	}
	slices.Sort(at)
	var b bytes.Buffer
	done := files.Position(file.Name.End()).Offset
	b.Write(text[:done])
	fmt.Fprintf(&b, "; import %q", "reecho/"+sleeperPath)
	for i, offset := range at {
		b.Write(text[done:offset])
		fmt.Fprintf(&b, " %s.At(%d);", filepath.Base(sleeperPath), first+i)
		done = offset
	}
	b.Write(text[done:])
	return b.Bytes(), len(at), nil
}
