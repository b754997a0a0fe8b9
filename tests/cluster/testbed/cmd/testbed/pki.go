package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// A pki signs the certificates of one run. They live longer than any run and shorter than a mistake.
type pki struct {
	folder      string
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	authority   []byte
	serial      int64
}

type pair struct{ certificate, key []byte }

const validity = 7 * 24 * time.Hour

func newPKI(folder string) (*pki, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	p := &pki{folder: folder, key: key}
	template := p.template("testbed")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	content, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the authority's certificate: %w", err)
	}
	if p.certificate, err = x509.ParseCertificate(content); err != nil {
		return nil, err
	}
	p.authority = pemBlock("CERTIFICATE", content)
	return p, p.save("ca.crt", p.authority)
}

func (p *pki) template(name string, groups ...string) *x509.Certificate {
	p.serial++
	return &x509.Certificate{
		SerialNumber: big.NewInt(p.serial),
		Subject:      pkix.Name{CommonName: name, Organization: groups},
		// Clocks of a machine that was just restored may be a little behind.
		NotBefore: time.Now().Add(-time.Hour),
		NotAfter:  time.Now().Add(validity),
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
}

// client makes a certificate for a user and its groups.
func (p *pki) client(user string, groups ...string) (pair, error) {
	template := p.template(user, groups...)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return p.sign(template)
}

func (p *pki) server(names []string, addresses ...netip.Addr) (pair, error) {
	template := p.template(names[0])
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.DNSNames = names
	for _, address := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(address.AsSlice()))
	}
	return p.sign(template)
}

func (p *pki) sign(template *x509.Certificate) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	content, err := x509.CreateCertificate(rand.Reader, template, p.certificate, key.Public(), p.key)
	if err != nil {
		return pair{}, fmt.Errorf("sign the certificate of %s: %w", template.Subject.CommonName, err)
	}
	encoded, err := keyBlock(key)
	return pair{certificate: pemBlock("CERTIFICATE", content), key: encoded}, err
}

// savePair writes NAME.crt and NAME.key.
func (p *pki) savePair(name string, made pair) error {
	if err := p.save(name+".crt", made.certificate); err != nil {
		return err
	}
	return p.save(name+".key", made.key)
}

// saveTokenKey writes the pair with which ServiceAccount tokens are signed and checked.
func (p *pki) saveTokenKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := keyBlock(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := p.save("tokens.key", private); err != nil {
		return err
	}
	return p.save("tokens.pub", pemBlock("PUBLIC KEY", public))
}

func (p *pki) save(name string, content []byte) error {
	return os.WriteFile(filepath.Join(p.folder, name), content, 0o600)
}

func keyBlock(key *ecdsa.PrivateKey) ([]byte, error) {
	content, err := x509.MarshalPKCS8PrivateKey(key)
	return pemBlock("PRIVATE KEY", content), err
}

func pemBlock(kind string, content []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
}
