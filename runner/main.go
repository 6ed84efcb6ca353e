// The runner does on a rented machine what a kubelet and a container runtime do near the process: it starts a pod's
// containers, probes them, restarts them, keeps their logs and tells their state. See docs/runner-protocol.md.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
)

// build is set by the linker.
var build = "unknown"

const (
	exitUsage        = 2
	exitOtherAttempt = 3
	exitNothingHere  = 4
	exitUnreadable   = 5
	exitNoLog        = 6
	exitCannot       = 125
)

const usageText = "usage: runner start|follow|stop|usage|exec|attach|logs|version [--root DIR] ... " +
	"(docs/runner-protocol.md)"

func main() {
	if len(os.Args) < 2 {
		os.Exit(complain(exitUsage, "%s", usageText))
	}
	// A machine for rent may have hundreds of processors; what Go keeps for each would be most of our memory.
	runtime.GOMAXPROCS(min(4, runtime.NumCPU()))
	debug.SetGCPercent(25)
	switch os.Args[1] {
	case "enter":
		os.Exit(enter())
	case "version":
		content, _ := json.Marshal(map[string]any{"version": documentVersion, "build": build})
		fmt.Println(string(content))
		return
	}
	commands := map[string]func(*options) int{
		"start": start, "supervise": supervise, "follow": follow, "stop": stop, "usage": usage, "exec": execute,
		"attach": attach, "logs": logs,
	}
	command, known := commands[os.Args[1]]
	if !known {
		os.Exit(complain(exitUsage, "%s", usageText))
	}
	parsed, err := parse(os.Args[1], os.Args[2:])
	if err != nil {
		os.Exit(complain(exitUsage, "%s", err))
	}
	os.Exit(command(parsed))
}

func complain(code int, format string, arguments ...any) int {
	fmt.Fprintln(os.Stderr, "runner: "+strings.ReplaceAll(fmt.Sprintf(format, arguments...), "\n", " "))
	return code
}

type options struct {
	root      string
	container string
	grace     float64
	stdin     bool
	env       list
	rest      []string
	ownView   bool
	log       logOptions
}

type list []string

func (l *list) String() string         { return strings.Join(*l, " ") }
func (l *list) Set(value string) error { *l = append(*l, value); return nil }

func parse(command string, arguments []string) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.SetOutput(new(strings.Builder))
	flags.StringVar(&o.root, "root", "", "")
	switch command {
	case "stop":
		flags.Float64Var(&o.grace, "grace", -1, "")
	case "attach":
		flags.StringVar(&o.container, "container", "", "")
		flags.BoolVar(&o.stdin, "stdin", false, "")
	case "exec":
		flags.StringVar(&o.container, "container", "", "")
		flags.Var(&o.env, "env", "")
	case "logs":
		flags.StringVar(&o.container, "container", "", "")
		o.log.flags(flags)
	case "supervise":
		flags.BoolVar(&o.ownView, "own-view", false, "")
	}
	if err := flags.Parse(arguments); err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	o.rest = flags.Args()
	if command != "exec" && len(o.rest) > 0 {
		return nil, fmt.Errorf("%s: what is %q?", command, o.rest[0])
	}
	if o.root == "" {
		program, err := os.Executable()
		if err != nil {
			return nil, err
		}
		o.root = filepath.Dir(program)
	}
	root, err := filepath.Abs(o.root)
	o.root = root
	return o, err
}
