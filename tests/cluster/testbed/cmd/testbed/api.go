package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// An api is the little of a Kubernetes client that the launcher needs.
type api struct {
	server string
	client *http.Client
}

func newAPI(server string, authority []byte, admin pair) (*api, error) {
	certificate, err := tls.X509KeyPair(admin.certificate, admin.key)
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(authority)
	return &api{server: server, client: &http.Client{
		Timeout: 10 * time.Second,
		// No proxy of the environment; no connection is kept for a server that is killed and comes back.
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{Certificates: []tls.Certificate{certificate}, RootCAs: trusted},
			DisableKeepAlives: true,
		},
	}}, nil
}

// do returns the body of a 2xx answer; `into` may be nil.
func (a *api) do(ctx context.Context, method, path, body string, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, a.server+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %.300s", method, path, answer.Status, content)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(content, into)
}

// ready asks whether the API server has started all its parts.
func (a *api) ready(ctx context.Context) error {
	return a.do(ctx, http.MethodGet, "/readyz", "", nil)
}

// heard asks whether a node is ready by a report made since the given time.
func (a *api) heard(ctx context.Context, name string, since time.Time) error {
	var found struct {
		Status struct {
			Conditions []struct {
				Type, Status, Message string
				LastHeartbeatTime     time.Time
			}
		}
	}
	if err := a.do(ctx, http.MethodGet, "/api/v1/nodes/"+name, "", &found); err != nil {
		return err
	}
	for _, condition := range found.Status.Conditions {
		if condition.Type != "Ready" {
			continue
		}
		if condition.Status != "True" {
			return fmt.Errorf("node %s is not ready: %s", name, condition.Message)
		}
		// A report's time is cut to whole seconds: one of the second in which the node was started may
		// be from before.
		if !condition.LastHeartbeatTime.After(since.Truncate(time.Second)) {
			return fmt.Errorf("node %s has not reported since it was started", name)
		}
		return nil
	}
	return fmt.Errorf("node %s has not reported yet", name)
}

// healthy asks an address that needs no credentials, and returns what it says.
func healthy(ctx context.Context, address string) ([]byte, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		// These sign their own certificates.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.300s", address, answer.Status, content)
	}
	return content, err
}

// synced asks kube-proxy whether it has written its rules. It says that it is healthy before that,
// but lists only what it has written.
func synced(ctx context.Context, address string) error {
	content, err := healthy(ctx, address)
	if err != nil {
		return err
	}
	var found struct{ Status map[string]any }
	if err := json.Unmarshal(content, &found); err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	if len(found.Status) == 0 {
		return fmt.Errorf("%s: no rules yet", address)
	}
	return nil
}

// patience is how long a condition may take on a machine that is busy with other tests.
const patience = 3 * time.Minute

// await asks until the answer is nil. What was last wrong is in its error.
func await(ctx context.Context, what string, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last error
	for {
		if last = ask(ctx); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s: %w; last: %w", what, context.Cause(ctx), last)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
