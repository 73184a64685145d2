// Package command is the command line of what an operator does to a cluster: it reads
// arguments, asks before what cannot be undone, and shows what package operator does.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"reecho/broker/operator"
	"reecho/edge/config"
)

// Exit statuses, as the server has them.
const (
	exitFailure = 1 // not healthy, refused, or failed
	exitUsage   = 2 // the command line is wrong
)

// Program is what a command has of the process.
type Program struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Flag returns the value of a flag that stood before the command.
	Flag func(name string) (string, bool)
	Env  func(name string) (string, bool)
}

// cluster is one call of reecho cluster.
type cluster struct {
	Program
	args    []string // behind the name of the command
	dir     string
	json    bool
	confirm string
	given   map[string]string
	timeout time.Duration
	lines   *lines
}

// command is one of those there are.
type command struct {
	name, args, help string
	most             int // arguments; all but those in brackets are needed
	least            int
	run              func(c *cluster, ctx context.Context) int
}

// commands are all, in the order of the help.
func commands() []command {
	return []command{
		{"status", "", "how the cluster is; the exit status is 1 unless it is healthy", 0, 0, (*cluster).status},
		{"export", "FILE", "write all events and sessions into a file: of a server that was alone and is stopped, or of a cluster that runs, as a backup", 1, 1, (*cluster).export},
		{"import", "FILE", "put them into an empty cluster", 1, 1, (*cluster).importFile},
		{"add", "NAME", "wait until a node that is new belongs to the cluster", 1, 1, (*cluster).add},
		{"remove", "NAME", "take a node that was stopped out of the cluster", 1, 1, (*cluster).remove},
		{"replace", "NAME [NEW]", "put a new node in the place of one that is gone for good, under its name or another", 2, 1, (*cluster).replace},
		{"scale", "3|5", "change on how many nodes each event is", 1, 1, (*cluster).scale},
		{"rescue", "", "go on with what is left when a majority is lost for good", 0, 0, (*cluster).rescue},
	}
}

// defaultTimeout bounds a command: copying takes as long as disk and network give it.
const defaultTimeout = time.Hour

// Cluster runs reecho cluster with arguments, until ctx ends, and returns the exit
// status.
func Cluster(ctx context.Context, args []string, p Program) int {
	c := &cluster{Program: p, given: make(map[string]string)}
	chosen, err := c.parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(p.Stdout, usage())
		return 0
	}
	if err != nil {
		fmt.Fprintf(p.Stderr, "reecho: %v (see reecho cluster --help)\n", err)
		return exitUsage
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	c.lines = newLines(p.Stderr)
	defer c.lines.clear()
	return chosen.run(c, ctx)
}

// parse reads the arguments; flags may stand anywhere among them.
func (c *cluster) parse(args []string) (*command, error) {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&c.json, "json", false, "")
	flags.StringVar(&c.confirm, "confirm", "", "")
	flags.DurationVar(&c.timeout, "timeout", defaultTimeout, "")
	for _, name := range []string{"data-dir", "config", "env-file"} {
		flags.Func(name, "", func(text string) error {
			c.given[name] = text
			return nil
		})
	}
	for len(args) > 0 {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		if args = flags.Args(); len(args) > 0 {
			c.args, args = append(c.args, args[0]), args[1:]
		}
	}
	if len(c.args) == 0 {
		return nil, errors.New("which command of cluster?")
	}
	chosen, err := choose(c.args)
	if err != nil {
		return nil, err
	}
	c.args = c.args[1:]
	c.dir, err = config.DataDir(config.Source{Flag: c.flag, Env: c.Env})
	return chosen, err
}

// choose finds the command and checks how many arguments it has.
func choose(args []string) (*command, error) {
	for _, one := range commands() {
		if one.name != args[0] {
			continue
		}
		if n := len(args) - 1; n < one.least || n > one.most {
			return nil, fmt.Errorf("cluster %s has %d arguments, use: reecho cluster %s", one.name, n, strings.TrimSpace(one.name+" "+one.args))
		}
		return &one, nil
	}
	return nil, fmt.Errorf("cluster has no command %.40q", args[0])
}

// flag is one that stood behind cluster, or before.
func (c *cluster) flag(name string) (string, bool) {
	if text, found := c.given[name]; found {
		return text, true
	}
	return c.Flag(name)
}

func usage() string {
	var b strings.Builder
	b.WriteString("reecho cluster COMMAND [flags], on a machine where a node of the cluster runs\n\n")
	for _, one := range commands() {
		fmt.Fprintf(&b, "  %-20s %s\n", strings.TrimSpace(one.name+" "+one.args), one.help)
	}
	b.WriteString(`
  --data-dir FOLDER    the node's own, or --config FILE, --env-file FILE, REECHO_… as for the server
  --json               the result as JSON on standard output
  --confirm CLUSTER    the cluster's name, in the place of typing it
  --timeout TIME       how long to wait (1h); what was begun goes on afterwards
`)
	return b.String()
}

// operate does what needs a server that runs, and shows what came of it.
func (c *cluster) operate(do func(o *operator.Operator) (any, error)) int {
	o, err := operator.Open(c.dir, c.lines)
	if err != nil {
		return c.fail(err)
	}
	defer o.Close()
	result, err := do(o)
	if err != nil {
		return c.fail(err)
	}
	return c.show(result)
}

func (c *cluster) status(ctx context.Context) int {
	return c.operate(func(o *operator.Operator) (any, error) { return o.Status(ctx) })
}

func (c *cluster) export(ctx context.Context) int {
	log := slog.New(slog.NewTextHandler(c.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	m, err := operator.Export(ctx, c.dir, c.args[0], log, c.lines)
	if err != nil {
		return c.fail(err)
	}
	return c.show(m)
}

func (c *cluster) importFile(ctx context.Context) int {
	return c.operate(func(o *operator.Operator) (any, error) { return o.Import(ctx, c.args[0], c.asker(o)) })
}

func (c *cluster) add(ctx context.Context) int {
	return c.operate(func(o *operator.Operator) (any, error) { return o.Add(ctx, c.args[0]) })
}

func (c *cluster) remove(ctx context.Context) int {
	return c.operate(func(o *operator.Operator) (any, error) { return o.Remove(ctx, c.args[0], c.asker(o)) })
}

func (c *cluster) replace(ctx context.Context) int {
	by := ""
	if len(c.args) > 1 {
		by = c.args[1]
	}
	return c.operate(func(o *operator.Operator) (any, error) { return o.Replace(ctx, c.args[0], by, c.asker(o)) })
}

func (c *cluster) scale(ctx context.Context) int {
	n, err := strconv.Atoi(c.args[0])
	if err != nil {
		fmt.Fprintf(c.Stderr, "reecho: %.40q is no number of nodes: 3 or 5\n", c.args[0])
		return exitUsage
	}
	return c.operate(func(o *operator.Operator) (any, error) { return o.Scale(ctx, n, c.asker(o)) })
}

func (c *cluster) rescue(ctx context.Context) int {
	return c.operate(func(o *operator.Operator) (any, error) { return o.Rescue(ctx, c.asker(o)) })
}

// fail tells why a command did not do what it should.
func (c *cluster) fail(err error) int {
	c.lines.clear()
	fmt.Fprintf(c.Stderr, "reecho: %v\n", err)
	if c.json {
		c.encode(map[string]any{"error": err.Error(), "refused": errors.Is(err, operator.ErrRefused)})
	}
	return exitFailure
}

// encode writes JSON for scripts.
func (c *cluster) encode(v any) {
	e := json.NewEncoder(c.Stdout)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // whoever reads has gone
}

// isTerminal reports whether somebody looks at a stream, or types into it.
func isTerminal(stream any) bool {
	file, is := stream.(*os.File)
	return is && terminal(file)
}
