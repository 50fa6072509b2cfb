package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sidecar/internal/gelf/gelftest"
)

// startInputs gives a script receivers of its own, see TestScripts.
func startInputs(env *testscript.Env, processes map[string]*process) error {
	ca, cert, err := authority()
	if err != nil {
		return err
	}
	path := filepath.Join(env.WorkDir, "ca.pem")
	if err := os.WriteFile(path, ca, 0o644); err != nil {
		return err
	}
	env.Setenv("CA", path)
	for _, start := range []struct {
		name string
		o    gelftest.Options
	}{
		{"INPUT", gelftest.Options{}},
		{"SILENT", gelftest.Options{}},
		{"TLSINPUT", gelftest.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}}},
	} {
		o := start.o
		o.TCP = "127.0.0.1:0"
		received := newLines()
		processes[start.name] = &process{output: received}
		o.Sink = func(m gelftest.Message) { fmt.Fprintf(received, "%s\n", m.Raw) }
		in, err := gelftest.Listen(o)
		if err != nil {
			return err
		}
		in.NeverEOF(start.name == "SILENT")
		done := make(chan error, 1)
		go func() { done <- in.Run(context.Background()) }()
		env.Defer(func() {
			in.Close()
			if err := <-done; err != nil {
				env.T().Fatal(err)
			}
		})
		env.Setenv(start.name, in.Addr("tcp"))
	}
	return nil
}

// authority returns a PEM certificate and a pair that it vouches for, for 127.0.0.1.
func authority() ([]byte, tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, tls.Certificate{}, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// cmdSend sends a file as a GELF client does:
//
//	[!] send tcp ADDR FILE   each line a NUL frame, then half-close; waits for EOF, which confirms, ! for a reset
//	send tcp-frame ADDR FILE the whole file as one NUL frame, in the same way
//	send udp ADDR FILE       one datagram
//	send chunks ADDR FILE    gzip, in chunks of 100 bytes, the last one first
//	send http ADDR FILE      POST /gelf, and want 202
func cmdSend(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: send tcp|tcp-frame|udp|chunks|http ADDR FILE, send unix|unixgram PATH FILE")
	}
	body := strings.TrimSuffix(ts.ReadFile(args[2]), "\n")
	switch addr := args[1]; args[0] {
	case "tcp":
		err := sendTCP(addr, strings.ReplaceAll(body, "\n", "\x00")+"\x00")
		if neg && !errors.Is(err, syscall.ECONNRESET) {
			ts.Fatalf("send: want a reset, found %v", err)
		} else if !neg {
			ts.Check(err)
		}
	case "tcp-frame":
		ts.Check(sendTCP(addr, body+"\x00"))
	case "udp":
		ts.Check(sendUDP(addr, [][]byte{[]byte(body)}))
	case "chunks":
		ts.Check(sendUDP(addr, chunks(body)))
	case "unix", "unixgram":
		conn, err := net.Dial(args[0], ts.MkAbs(addr))
		ts.Check(err)
		_, err = io.WriteString(conn, body+"\n")
		ts.Check(errors.Join(err, conn.Close()))
	case "http":
		resp, err := http.Post("http://"+addr+"/gelf", "application/json", strings.NewReader(body))
		ts.Check(err)
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			ts.Fatalf("POST /gelf: %s", resp.Status)
		}
	default:
		ts.Fatalf("send: unknown transport %q", args[0])
	}
}

func sendTCP(addr, stream string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, stream); err != nil {
		return err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	return err
}

func sendUDP(addr string, datagrams [][]byte) error {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, d := range datagrams {
		if _, err := conn.Write(d); err != nil {
			return err
		}
	}
	return nil
}

// chunks compresses body and cuts it (GELF 1.1, "Chunking": magic, message ID,
// sequence number, sequence count). The last chunk comes first.
func chunks(body string) [][]byte {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	io.WriteString(w, body)
	w.Close()
	const size = 100
	count := (z.Len() + size - 1) / size
	var all [][]byte
	for seq := range count {
		header := fmt.Appendf(nil, "\x1e\x0f12345678%c%c", seq, count)
		all = append([][]byte{append(header, z.Next(size)...)}, all...)
	}
	return all
}
