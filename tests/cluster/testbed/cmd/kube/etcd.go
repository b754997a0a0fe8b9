package main

import (
	"fmt"
	"net/url"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// Where etcd keeps its data, and the two addresses on which it listens.
const (
	etcdData   = "ETCD_DATA"
	etcdClient = "ETCD_CLIENT"
	etcdPeer   = "ETCD_PEER"
)

// startEtcd runs etcd inside the API server's process and returns when it can be written to: the
// API server gives up when etcd answers too late.
func startEtcd() error {
	data := os.Getenv(etcdData)
	if data == "" {
		return fmt.Errorf("%s is not set: name the folder for the data", etcdData)
	}
	client, err := address(etcdClient)
	if err != nil {
		return err
	}
	peer, err := address(etcdPeer)
	if err != nil {
		return err
	}
	config := embed.NewConfig()
	config.Dir = data
	config.ListenClientUrls, config.AdvertiseClientUrls = client, client
	config.ListenPeerUrls, config.AdvertisePeerUrls = peer, peer
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	// The data must outlive a killed process, not a machine without power: the page cache is enough.
	config.UnsafeNoFsync = true
	config.LogLevel = "error"
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	select {
	case <-server.Server.ReadyNotify():
		return nil
	case err := <-server.Err():
		return err
	case <-time.After(time.Minute):
		return fmt.Errorf("not ready after a minute on the data in %s", data)
	}
}

func address(variable string) ([]url.URL, error) {
	parsed, err := url.Parse(os.Getenv(variable))
	if err != nil || parsed.Host == "" {
		return nil, fmt.Errorf("%s is %q: give an address such as http://127.0.0.1:2379", variable, os.Getenv(variable))
	}
	return []url.URL{*parsed}, nil
}
