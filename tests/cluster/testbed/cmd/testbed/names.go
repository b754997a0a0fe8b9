package main

import (
	"fmt"
	"net/netip"
	"path/filepath"
)

// Everything of a run carries its slot's number: two runs have nothing in common, and what a dead
// run left is known by its name.
const (
	slots      = 32
	firstRange = 192 // slot 0 has 10.192.0.0/16
	mostNodes  = 32

	clusterPort = 6443
	proxyHealth = 10256
)

// The API server's machine is named as its role, nodes as node1, node2, ...
const controlName = "control"

func nodeName(index int) string { return fmt.Sprintf("node%d", index) }

func (s *slot) address(third, fourth int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(firstRange + s.number), byte(third), byte(fourth)})
}

func (s *slot) network(third, bits int) netip.Prefix {
	return netip.PrefixFrom(s.address(third, 0), bits)
}

func (s *slot) whole() netip.Prefix          { return s.network(0, 16) }
func (s *slot) nodeNetwork() netip.Prefix    { return s.network(0, 24) }
func (s *slot) podNetwork() netip.Prefix     { return s.network(64, 18) }
func (s *slot) serviceNetwork() netip.Prefix { return s.network(128, 20) }
func (s *slot) linkNetwork() netip.Prefix    { return s.network(255, 30) }

func (s *slot) nodePods(index int) netip.Prefix  { return s.network(64+index, 24) }
func (s *slot) nodeAddress(index int) netip.Addr { return s.address(0, 10+index) }
func (s *slot) controlAddress() netip.Addr       { return s.address(0, 1) }
func (s *slot) apiServiceAddress() netip.Addr    { return s.address(128, 1) }
func (s *slot) dnsServiceAddress() netip.Addr    { return s.address(128, 10) }
func (s *slot) hostLinkAddress() netip.Addr      { return s.address(255, 1) }
func (s *slot) controlLinkAddress() netip.Addr   { return s.address(255, 2) }
func (s *slot) server() string                   { return fmt.Sprintf("https://%s:%d", s.controlAddress(), clusterPort) }
func (s *slot) link() string                     { return fmt.Sprintf("ntbed%d", s.number) }
func (s *slot) cgroup() string                   { return fmt.Sprintf("notrack-testbed-%d", s.number) }
func (s *slot) nodeCgroup(name string) string    { return filepath.Join(s.cgroup(), name) }
func (s *slot) file() string                     { return filepath.Join(registry, fmt.Sprint(s.number)) }
func (s *slot) macAddress(index, kind int) string {
	return fmt.Sprintf("02:4e:54:%02x:%02x:%02x", s.number, kind, index)
}
