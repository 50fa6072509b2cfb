package main

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sidecar/internal/output"
	"sidecar/internal/ship"
)

func TestLBStatusOfEachHost(t *testing.T) {
	var o opener
	for host, want := range map[string]string{"graylog:12201": "https://graylog:9000/lb", "[2001:db8::1]:12201": "https://[2001:db8::1]:9000/lb", "": ""} {
		o.Config = &Config{}
		o.Output.LBStatus = "https://{host}:9000/lb"
		if got := o.lbStatus(&url.URL{Host: host}); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}

// The authority of the output is that of the state too, and is read anew.
func TestLBStatusOverTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write := func() {
		b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		if err := os.WriteFile(ca, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	_, effective, err := load(t, "")
	if err != nil {
		t.Fatal(err)
	}
	o := opener{Config: &Config{}, effective: effective}
	o.Output.LBStatus, o.Output.TLS.CA = server.URL, ca
	client, err := o.client(true)
	if err != nil {
		t.Fatal(err)
	}
	get := func() error {
		answer, err := client.Get(server.URL)
		if err == nil {
			answer.Body.Close()
		}
		client.CloseIdleConnections()
		return err
	}
	if err := get(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(ca, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := get(); err == nil || !strings.Contains(err.Error(), "no certificate in PEM form") {
		t.Errorf("got %v", err)
	}
	write()
	if err := get(); err != nil {
		t.Error(err)
	}
}

func TestStatusLineSaysWhereMessagesGo(t *testing.T) {
	line := ship.New(ship.Options{Metrics: ship.NewMetrics(1)})
	text, _ := statusLine(line, output.GroupStatus{Target: "graylog:12201", Ack: output.AckKernel})
	if !strings.HasPrefix(text, "not connected, ack_mode kernel, 0 messages sent") {
		t.Error(text)
	}
	if s := line.Metrics.Status(time.Now()); s.Connected {
		t.Error("connected")
	}
}
