package gelfin

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sidecar/internal/gelf"
	"sidecar/internal/parse"
	"sidecar/internal/record"
)

// TestNodeTransport: gelf-pro, which many Winston transports send with, over UDP with
// chunks and over TCP. What it sends passes the parser and Graylog's verdict.
func TestNodeTransport(t *testing.T) {
	modules, err := filepath.Abs("../../test/winston/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	const count = 20
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			r := run(t, network, Options{})
			_, port, err := net.SplitHostPort(r.address)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("node", "testdata/send.js", network, port, fmt.Sprint(count))
			cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("node (test/setup/npm.sh installs gelf-pro): %v\n%s", err, out)
			}
			p := parse.New(parse.Options{})
			seen := map[any]bool{}
			for _, text := range r.texts(t, count) {
				e := &record.Entry{Message: []byte(text), TimeUsec: r.list[0].TimeUsec, Priority: -1}
				Decode(nil, e)
				records := p.Parse(nil, e)
				if len(records) != 1 {
					t.Fatalf("%d records of %.100q", len(records), text)
				}
				frame := gelf.Append(nil, &records[0], &gelf.Options{})
				var m map[string]any
				if err := json.Unmarshal(frame, &m); err != nil {
					t.Fatal(err)
				}
				if m["_order_id"] != 42.0 || m["_service"] != "shop" || m["level"] != 3.0 || m["_text"] == nil {
					t.Errorf("got %.300s of %.300s", frame, text)
				}
				if v := gelf.Judge(frame); v.Outcome != gelf.Accepted || v.Worst() > gelf.FieldRenamed {
					t.Errorf("%s", v.Summary())
				}
				seen[m["short_message"]] = true
			}
			if len(seen) != count {
				t.Errorf("%d different messages, want %d", len(seen), count)
			}
		})
	}
}
