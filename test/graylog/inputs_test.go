package graylog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sidecar/internal/parse/parsetest"
)

// buildLogship builds the program under test.
func buildLogship(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "logship")
	build := exec.Command("go", "build", "-trimpath", "-pgo=off", "-o", path, "sidecar/cmd/logship")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build logship: %v\n%s", err, out)
	}
	return path
}

// ships has logship ship lines of standard input, and returns its standard output when
// all of them are confirmed.
func ships(t *testing.T, logship, url string, lines []byte) []byte {
	t.Helper()
	cmd := exec.Command(logship, "run", "--stdin", "--set", "output.url="+url, "--set", "metrics.listen=", "--set", "host.name=web-01")
	cmd.Stdin = bytes.NewReader(lines)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ship to %s: %v\n%s", url, err, said.Bytes())
	}
	return out
}

// inputs are GELF inputs that listen on the loopback.
type inputs struct {
	tcp, http, udp string // host:port
	// messages has the answer to each message that comes, in their order. It is closed
	// when the inputs are.
	messages chan answer
}

// graylogInputs starts Graylog's own inputs.
func graylogInputs(t *testing.T) *inputs {
	t.Helper()
	cmd := java(t, "Decode.java", "listen")
	in := &inputs{messages: make(chan answer, 4096)} // more than are sent: Graylog never waits for the test
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		for range in.messages { // until it ends
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("Graylog's inputs: %v", err)
		}
	})
	d := json.NewDecoder(stdout)
	d.UseNumber()
	var ports struct{ TCP, HTTP, UDP int }
	if err := d.Decode(&ports); err != nil {
		close(in.messages)
		t.Fatalf("start Graylog's inputs: %v", err)
	}
	go func() {
		defer close(in.messages)
		for {
			var a answer
			if d.Decode(&a) != nil {
				return
			}
			in.messages <- a
		}
	}()
	in.tcp, in.http, in.udp = fmt.Sprint("127.0.0.1:", ports.TCP), fmt.Sprint("127.0.0.1:", ports.HTTP), fmt.Sprint("127.0.0.1:", ports.UDP)
	return in
}

// next returns the answer to the next message.
func (in *inputs) next(t *testing.T) answer {
	t.Helper()
	select {
	case a := <-in.messages:
		return a
	case <-time.After(time.Minute):
		t.Fatal("no message comes")
		return answer{}
	}
}

// TestGraylogInputs ships to Graylog's own inputs: logship ends when each message is
// confirmed, and then Graylog has decoded each, in their order. And it compares the
// inputs with gelftest's.
func TestGraylogInputs(t *testing.T) {
	graylog := graylogInputs(t)
	t.Run("logship", graylog.take)
	t.Run("stand-in", func(t *testing.T) { compareInputs(t, graylog, standIn(t)) })
}

// take has logship ship to the inputs.
func (in *inputs) take(t *testing.T) {
	logship := buildLogship(t)
	corpus, _ := parsetest.Corpus()
	random := rand.NewPCG(1, 2)
	var noise strings.Builder // that no compression makes fit a datagram
	for noise.Len() < 100_000 {
		fmt.Fprintf(&noise, "%x\n", random.Uint64())
	}
	long, err := json.Marshal(map[string]string{"level": "info", "message": noise.String()})
	if err != nil {
		t.Fatal(err)
	}
	few := append(slices.Clone(corpus[:20]), append([]byte("_jsonrc:"), long...))
	for _, input := range []struct {
		url   string
		lines [][]byte
	}{
		{"gelf+tcp://" + in.tcp, corpus},
		{"gelf+http://" + in.http + "/gelf", corpus},
		{"gelf+udp://" + in.udp, few}, // no more than a socket holds
	} {
		lines := append(bytes.Join(input.lines, []byte("\n")), '\n')
		want := ships(t, logship, "stdout:", lines)
		ships(t, logship, input.url, lines)
		for i, line := range bytes.Split(bytes.TrimSpace(want), []byte("\n")) {
			var sent struct {
				Short string `json:"short_message"`
			}
			if err := json.Unmarshal(line, &sent); err != nil {
				t.Fatal(err)
			}
			got := in.next(t)
			if short := strings.TrimFunc(sent.Short, func(r rune) bool { return r <= ' ' }); got.Document["message"] != short || got.Document["event_id"] == nil {
				t.Fatalf("%s: message %d is %v, %s, sent as %.300s", input.url, i, got.Document, got.Refused, line)
			}
		}
	}
}
