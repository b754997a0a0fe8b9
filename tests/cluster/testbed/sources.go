// Package testbed holds the sources that `testbed build` compiles, so that the launcher is one file
// which works from anywhere, and knows by their content whether a build is still good.
package testbed

import "embed"

// Sources is the part of this module that runs inside the cluster.
//
//go:embed go.mod go.sum cmd/kube cmd/pause
var Sources embed.FS
