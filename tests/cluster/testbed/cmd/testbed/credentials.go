package main

import (
	"encoding/base64"
	"os"
	"path/filepath"
)

// makeCredentials writes all certificates and kubeconfigs of the run.
func (c *cluster) makeCredentials() error {
	p, err := newPKI(filepath.Join(c.folder, "pki"))
	if err != nil {
		return err
	}
	serving, err := p.server([]string{"kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local", "localhost"},
		c.slot.controlAddress(), c.slot.controlLinkAddress(), c.slot.apiServiceAddress())
	if err != nil {
		return err
	}
	if err := p.savePair("apiserver", serving); err != nil {
		return err
	}
	toKubelets, err := p.client("kube-apiserver", "system:masters")
	if err != nil {
		return err
	}
	if err := p.savePair("kubelet-client", toKubelets); err != nil {
		return err
	}
	if err := p.saveTokenKey(); err != nil {
		return err
	}
	admin, err := c.kubeconfig(p, "admin", "testbed-admin", "system:masters")
	if err != nil {
		return err
	}
	if c.api, err = newAPI(c.slot.server(), p.authority, admin); err != nil {
		return err
	}
	// The names by which the roles that come with Kubernetes know these programs.
	for _, name := range []string{"kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		if _, err := c.kubeconfig(p, name, "system:"+name); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		if _, err := c.kubeconfig(p, n.name, "system:node:"+n.name, "system:nodes"); err != nil {
			return err
		}
	}
	return nil
}

// kubeconfig makes a user's certificate and writes NAME.kubeconfig.
func (c *cluster) kubeconfig(p *pki, name, user string, groups ...string) (pair, error) {
	made, err := p.client(user, groups...)
	if err != nil {
		return made, err
	}
	text, err := render("kubeconfig.yaml", map[string]string{
		"Server":      c.slot.server(),
		"Authority":   base64.StdEncoding.EncodeToString(p.authority),
		"Certificate": base64.StdEncoding.EncodeToString(made.certificate),
		"Key":         base64.StdEncoding.EncodeToString(made.key),
	})
	if err != nil {
		return made, err
	}
	return made, os.WriteFile(filepath.Join(c.folder, name+".kubeconfig"), text, 0o600)
}
