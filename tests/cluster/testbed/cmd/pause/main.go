// pause keeps a pod's namespaces alive.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// The kernel itself reaps the orphans of pods that share one process namespace.
	signal.Ignore(syscall.SIGCHLD)
	// A first process gets only the signals for which it has a handler.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}
