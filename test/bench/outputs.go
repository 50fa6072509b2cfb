package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// outputsShare is which part of the entries goes through every output: over HTTP one
// message at a time takes long.
const outputsShare = 5

// benchOutputs ships the same span of a journal over every kind of output, to receivers
// in this process that take everything and look at nothing.
func benchOutputs(dir string, lines [][]byte, entries, rounds int) error {
	entries /= outputsShare
	journal := filepath.Join(dir, "outputs")
	if _, err := writeJournal(journal, entries, lines); err != nil {
		return err
	}
	cert, authority, err := selfSigned(dir)
	if err != nil {
		return err
	}
	secure := &tls.Config{Certificates: []tls.Certificate{cert}}
	var contenders []contender
	for _, o := range []struct {
		name, scheme string
		receive      func() (net.Addr, io.Closer, error)
		set          []string
	}{
		{"TCP", "gelf+tcp", func() (net.Addr, io.Closer, error) { return drainTCP(nil) }, nil},
		{"TLS 1.3", "gelf+tls", func() (net.Addr, io.Closer, error) { return drainTCP(secure) }, nil},
		{"HTTP, a request for each message", "gelf+http", drainHTTP, nil},
		{"HTTP, bulk", "gelf+http", drainHTTP, []string{"output.http.bulk=true", "output.compress=none"}},
		{"HTTP, bulk, gzip", "gelf+http", drainHTTP, []string{"output.http.bulk=true"}},
		{"UDP, not confirmed", "gelf+udp", drainUDP, nil},
	} {
		contenders = append(contenders, contender{"logship replay: journal -> " + o.name, func() (sample, error) {
			at, receiver, err := o.receive()
			if err != nil {
				return sample{}, err
			}
			defer receiver.Close()
			args := []string{"replay", "--since", "2000-01-01", "--until", "2100-01-01", "--set", "input.journald.directory=" + journal,
				"--set", "output.url=" + o.scheme + "://" + at.String(), "--set", "output.tls.ca=" + authority, "--set", "log.level=warn"}
			for _, s := range o.set {
				args = append(args, "--set", s)
			}
			return runCommand(exec.Command("bin/logship", args...))
		}})
	}
	return compare(contenders, entries, rounds)
}

// selfSigned returns a certificate for 127.0.0.1 and the file of it as an authority.
func selfSigned(dir string) (tls.Certificate, string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	path := filepath.Join(dir, "authority.pem")
	err = os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path, err
}

// drainTCP reads connections to their end and closes them, which confirms.
func drainTCP(secure *tls.Config) (net.Addr, io.Closer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if secure != nil {
				c = tls.Server(c, secure)
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 256<<10)
				for err := error(nil); err == nil; _, err = c.Read(buf) {
				}
			}()
		}
	}()
	return l.Addr(), l, nil
}

// drainHTTP answers each post with 202.
func drainHTTP() (net.Addr, io.Closer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			w.WriteHeader(http.StatusAccepted)
		}
	})}
	go server.Serve(l)
	return l.Addr(), server, nil
}

// drainUDP takes datagrams, those that there is room for.
func drainUDP() (net.Addr, io.Closer, error) {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, nil, err
	}
	go func() {
		buf := make([]byte, 64<<10)
		for err := error(nil); err == nil; _, err = c.Read(buf) {
		}
	}()
	return c.LocalAddr(), c, nil
}
