// testbed runs a real Kubernetes of a few nodes on one machine, for tests: no container engine, no
// registry, no systemd, no hypervisor. README.md has the commands.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

type command struct {
	name, usage, purpose string
	run                  func(ctx context.Context, arguments []string) error
	hidden               bool
}

func commands() []command {
	return []command{
		{name: "build", usage: "build", run: buildCommand,
			purpose: "compile Kubernetes and unpack Debian's programs into the cache; nothing when they are there"},
		{name: "up", usage: "up [--nodes N] [--proxy-mode iptables|nftables] [--dir DIR] [--until-stdin-closes] [--keep-logs]", run: upCommand,
			purpose: "start a cluster, print one line of JSON when it is ready, stay until a signal, then leave nothing"},
		{name: "load", usage: "load DIR IMAGE.tar", run: loadCommand,
			purpose: "import an image archive on every node"},
		{name: "image", usage: "image --name NAME --out FILE.tar [--copy SRC:DEST]... [--user UID] PROGRAM...", run: imageCommand,
			purpose: "make an image archive of programs and the shared libraries that they need"},
		{name: "ctl", usage: "ctl DIR stop|start apiserver|controller-manager|scheduler|NODE|NODE/kubelet|NODE/kube-proxy", run: ctlCommand,
			purpose: "kill a part of the cluster, as a crash or a power cut does, or bring it back; returns when done"},
		{name: "sweep", usage: "sweep", run: sweepCommand,
			purpose: "remove what killed runs left; live runs are not touched"},
		{name: "version", usage: "version", run: versionCommand,
			purpose: "print the versions of what runs in the cluster"},
		{name: machineArgument, run: machineCommand, hidden: true},
	}
}

func main() {
	arguments := os.Args[1:]
	if len(arguments) == 0 || slices.Contains([]string{"help", "-h", "-help", "--help"}, arguments[0]) {
		help()
		return
	}
	for _, c := range commands() {
		if c.name != arguments[0] {
			continue
		}
		ctx := context.Background()
		if !c.hidden {
			ctx, _ = signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		}
		err := c.run(ctx, arguments[1:])
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "testbed:", err)
			os.Exit(1)
		}
		return
	}
	fmt.Fprintf(os.Stderr, "testbed: no command %q; see testbed help\n", arguments[0])
	os.Exit(2)
}

func help() {
	fmt.Println("testbed runs a real Kubernetes of a few nodes on this machine, for tests. Needs root.")
	fmt.Println()
	for _, c := range commands() {
		if !c.hidden {
			fmt.Printf("  testbed %s\n      %s\n", c.usage, c.purpose)
		}
	}
}

// parse reads options and asks for the given number of arguments after them (at least, when some
// may follow).
func parse(options *flag.FlagSet, arguments []string, least, most int) error {
	usage := options.Name()
	for _, c := range commands() {
		if c.name == options.Name() {
			usage = c.usage
		}
	}
	options.Usage = func() {
		fmt.Fprintln(options.Output(), "usage: testbed", usage)
		options.PrintDefaults()
	}
	if err := options.Parse(arguments); err != nil {
		return err
	}
	if n := options.NArg(); n < least || n > most {
		return fmt.Errorf("usage: testbed %s", usage)
	}
	return nil
}

func newFlags(name string) *flag.FlagSet {
	return flag.NewFlagSet(name, flag.ContinueOnError)
}

func progress(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "testbed: "+format+"\n", values...)
}
