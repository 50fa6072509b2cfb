package intake

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	gogelf "github.com/Graylog2/go-gelf/gelf"

	"sidecar/internal/gelf"
)

// goGELF sends with Graylog's own Go library, by UDP with Client as compression or by TCP.
func (f *flow) goGELF(a *sent) error {
	network, address, _ := strings.Cut(strings.TrimPrefix(f.Listen, "gelf+"), "://")
	var w gogelf.Writer
	if network == "tcp" {
		t, err := gogelf.NewTCPWriter(address)
		if err != nil {
			return err
		}
		w = t
	} else {
		u, err := gogelf.NewUDPWriter(address)
		if err != nil {
			return err
		}
		u.CompressionType = map[string]gogelf.CompressType{"none": gogelf.CompressNone, "gzip": gogelf.CompressGzip, "zlib": gogelf.CompressZlib}[f.Client]
		w = u
	}
	p := newPace(f.Rate)
	for n := 1; n <= f.Count; n++ {
		_ = p.wait(n, nil) // never fails without a writer
		err := w.WriteMessage(&gogelf.Message{Version: "1.1", Host: "web-04", Short: "order created", Full: "order created\n    at main.go:7", TimeUnix: 1794903330.5, Level: 4,
			Extra: map[string]interface{}{"_stream": f.Stream, "_n": n, "_filling": filling(n, f.Size), "_order_id": 42, "_live": true, "_none": nil, "_bad name": "kept"}})
		if err != nil {
			return fmt.Errorf("message %d: %w", n, err)
		}
		a.Sent++
	}
	return w.Close()
}

// TestGELFClients: what Graylog's Go library and Node's transports send arrives once, with
// its fields, and nothing of it is refused or changed by Graylog's rules.
func TestGELFClients(t *testing.T) {
	d := startGELF(t)
	must(t, d.CopyTree(t.Context(), "../winston/node_modules", "/opt/clients/node_modules"))
	must(t, d.CopyIn(t.Context(), "testdata/clients.js", "/opt/clients/clients.js", 0o644))
	const count = 200
	var flows []flow
	for i, client := range []string{"none", "gzip", "zlib"} {
		flows = append(flows, flow{Listen: gelfUDPUnit, Client: client, Stream: "go-udp-" + client, Count: count, Rate: 200, Size: []int{5000, 300, 5000}[i]})
	}
	flows = append(flows, flow{Listen: gelfTCPUnit, Client: "tcp", Stream: "go-tcp", Count: count, Size: 5000})
	accounts := d.begin(t, flows...)()
	for stream, port := range map[string]string{"gelf-pro udp": "12211", "gelf-pro tcp": "12211", "winston-log2gelf tcp": "12211", "winston-log2gelf http": "12202"} {
		library, network, _ := strings.Cut(stream, " ")
		d.Do(t, "node", "/opt/clients/clients.js", library, network, port, stream, fmt.Sprint(count))
		accounts[stream] = sent{Stream: stream, Sent: count}
	}
	d.awaitAll(t, accounts)
	received, err := os.ReadFile(d.Path(received))
	must(t, err)
	for frame := range bytes.Lines(received) {
		v := gelf.Judge(bytes.TrimSpace(frame))
		if v.Outcome != gelf.Accepted || v.Worst() > gelf.FieldRenamed || v.HasLevel && v.Level != 4 {
			t.Fatalf("%.500s: %s", frame, v.Summary())
		}
		for _, want := range []string{`"_order_id":42`, `"_live":"true"`, `"short_message":"order created"`} {
			if !bytes.Contains(frame, []byte(want)) {
				t.Fatalf("%.500s has no %s", frame, want)
			}
		}
	}
}
