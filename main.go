// Command reecho is a realtime server that speaks the Pusher Channels protocol
// and keeps every channel as a retained log.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"

	"reecho/edge/command"
	"reecho/edge/config"
	"reecho/edge/node"
	"reecho/edge/pressure"
)

// version is set when a release is built.
var version = ""

// Exit statuses.
const (
	exitFailure = 1 // the server could not start or stop cleanly
	exitUsage   = 2 // flags, environment or configuration file are wrong
)

func main() {
	// First of all, for until then a signal ends the process.
	s := node.CatchSignals(func() {
		fmt.Fprintln(os.Stderr, "reecho: a second signal ends it at once")
		os.Exit(exitFailure)
	})
	os.Exit(run(os.Args, os.Stdout, os.Stderr, s))
}

// run is the whole program; it returns the exit status.
func run(args []string, stdout, stderr io.Writer, s *node.Signals) int {
	status := 0
	serve := func(c *cli.Context) error {
		status = serve(c, stdout, stderr, s)
		return nil
	}
	operate := func(c *cli.Context) error {
		p := command.Program{Stdin: os.Stdin, Stdout: stdout, Stderr: stderr, Flag: givenFlag(c), Env: os.LookupEnv}
		status = command.Cluster(s.Context(), c.Args().Slice(), p)
		return nil
	}
	app := &cli.App{
		Name: "reecho", HelpName: "reecho", Usage: "a Pusher-compatible realtime server that does not lose events",
		Version: buildVersion(), Writer: stdout, ErrWriter: stderr,
		Flags: flags(), Action: serve, HideHelpCommand: true,
		OnUsageError: usageError,
		Commands: []*cli.Command{{
			Name: "serve", Usage: "run the server (this is what reecho does without a command)",
			Flags: flags(), Action: serve, OnUsageError: usageError,
		}, {
			Name: "cluster", Usage: "look at a cluster and change it: status, export, import, add, remove, replace, scale, rescue",
			SkipFlagParsing: true, Action: operate,
		}},
		ExitErrHandler: func(*cli.Context, error) {},
	}
	if err := app.Run(args); err != nil {
		fmt.Fprintf(stderr, "reecho: %v\n", err)
		return exitUsage
	}
	return status
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "development"
}

// usageError keeps urfave/cli from printing the whole help for one typo.
func usageError(_ *cli.Context, err error, _ bool) error {
	return fmt.Errorf("%w (see reecho --help)", err)
}

// flags makes the command line of the settings. Defaults and environment are
// resolved by package config, so that they have one order of precedence.
func flags() []cli.Flag {
	var flags []cli.Flag
	for _, o := range config.Options() {
		help := o.Help + " [$" + o.Env + "]"
		if o.Switch {
			flags = append(flags, &cli.BoolFlag{Name: o.Name, Usage: help})
			continue
		}
		flags = append(flags, &cli.StringFlag{Name: o.Name, Usage: help, DefaultText: o.Default})
	}
	return flags
}

// serve runs a node until a signal.
func serve(c *cli.Context, stdout, stderr io.Writer, s *node.Signals) int {
	if c.NArg() > 0 {
		fmt.Fprintf(stderr, "reecho: unknown argument%s (see reecho --help)\n", shown(c))
		return exitUsage
	}
	cfg, err := config.Load(config.Source{Flag: givenFlag(c), Env: os.LookupEnv, Environ: os.Environ})
	if err != nil {
		printProblems(stderr, err)
		return exitUsage
	}
	cfg.Version = buildVersion()
	log := newLogger(cfg, stderr)
	pressure.Soften(log)
	for _, text := range cfg.Warnings {
		log.Warn("configuration", slog.String("warning", text))
	}
	if len(cfg.Used) > 0 {
		log.Info("variables of other servers are used", slog.String("for", strings.Join(cfg.Used, "; ")))
	}
	if len(cfg.Unused) > 0 {
		log.Info("variables of other servers are not used", slog.String("variables", strings.Join(cfg.Unused, "; ")))
	}
	n, err := node.Start(s.Context(), cfg, log)
	switch {
	case errors.Is(err, node.ErrStopped):
		log.Info("stopped before the start was done")
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "reecho: cannot start: %v\n", err)
		return exitFailure
	}
	announce(cfg, n, stdout, stderr)
	s.Serve(n)
	return closeNode(n, cfg, log)
}

// shown is the first argument that is no flag, unless it may be a part of a
// secret that was not put into quotes.
func shown(c *cli.Context) string {
	if _, given := givenFlag(c)("app-secret"); given {
		return ""
	}
	return fmt.Sprintf(" %.40q", c.Args().First())
}

func closeNode(n *node.Node, cfg config.Config, log *slog.Logger) int {
	log.Info("stopping")
	ctx, cancel := context.WithTimeout(context.Background(), cfg.ShutdownTimeout)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		log.Error("the server did not stop cleanly", slog.Any("error", err))
		return exitFailure
	}
	return 0
}

// givenFlag finds flags that stand on the command line, before or behind the
// command.
func givenFlag(c *cli.Context) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, level := range c.Lineage() {
			if level.IsSet(name) {
				return fmt.Sprint(level.Value(name)), true
			}
		}
		return "", false
	}
}

func printProblems(stderr io.Writer, err error) {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		fmt.Fprintf(stderr, "reecho: %v\n", err)
		return
	}
	fmt.Fprintln(stderr, "reecho: the configuration has problems:")
	for _, line := range strings.Split(err.Error(), "\n") {
		fmt.Fprintf(stderr, "  - %s\n", line)
	}
}

func newLogger(cfg config.Config, stderr io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(stderr, options))
	}
	return slog.New(slog.NewTextHandler(stderr, options))
}

// reachable is an address that can be opened: one that stands for all
// interfaces is shown as localhost.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// announce says that the server is ready, in one line on standard output. The
// credentials of the development app go to standard error.
func announce(cfg config.Config, n *node.Node, stdout, stderr io.Writer) {
	scheme := "http"
	if cfg.TLSCert != "" {
		scheme = "https"
	}
	url := scheme + "://" + reachable(n.Addr()) + cfg.Edge.PathPrefix
	if n.Addr().Network() == "unix" {
		url = config.UnixListen + n.Addr().String()
	}
	if cfg.Development {
		a := cfg.Apps[0]
		fmt.Fprintf(stderr, "No app is configured, so there is one for development:\n"+
			"  id      %s\n  key     %s\n  secret  %s\n  demo    %s/demo\n",
			a.ID, a.Key(), a.Credentials[0].Secret, url)
	}
	fmt.Fprintf(stdout, "reecho is ready on %s\n", url)
}
