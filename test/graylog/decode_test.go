package graylog

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sidecar/internal/gelf"
	"sidecar/internal/gelf/judgetest"
	"sidecar/internal/guard"
	"sidecar/internal/parse"
	"sidecar/internal/parse/parsetest"
	"sidecar/internal/record"
	"sidecar/internal/redact"
	"sidecar/internal/rules"
	"sidecar/internal/ship"
)

// peer is the sender that Decode.java names to Graylog.
const peer = "192.0.2.1"

// received is the time at which the lines of the corpus arrive, microseconds since 1970.
const received = 1794985600e6

// graceMs is how far ahead a timestamp may be unless the operator sets it: 10^12 seconds
// (TimeStampConfig of Graylog 6.3 and later).
const graceMs = 1e15

// answer is what Graylog makes of a message: a document for the index, or why it is
// refused, or neither.
type answer struct {
	Document map[string]any
	Refused  string
}

// java returns a command that runs a program of this directory with Graylog's classes. Its
// standard error is shown if the test fails. Without Java or the jars the test is skipped,
// in CI it fails.
func java(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	jars, err := filepath.Abs("../../.cache/graylog")
	if err != nil {
		t.Fatal(err)
	}
	path, err := exec.LookPath("java")
	if err == nil {
		_, err = os.Stat(filepath.Join(jars, ".stamp"))
	}
	switch {
	case err != nil && os.Getenv("CI") == "true":
		t.Fatal(err)
	case err != nil:
		t.Skipf("%v: run make setup", err)
	}
	// Graylog's jar comes first: others have a version.properties too.
	first, err := filepath.Glob(filepath.Join(jars, "graylog2-server-*.jar"))
	if err != nil || len(first) != 1 {
		t.Fatalf("%v: %v", first, err)
	}
	var said bytes.Buffer
	cmd := exec.Command(path, append([]string{"-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", first[0] + ":" + jars + "/*", program}, args...)...)
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s said:\n%s", program, said.Bytes()[max(0, said.Len()-4000):])
		}
	})
	return cmd
}

// decode has Graylog decode messages. It returns Graylog's index template and an answer
// for each message.
func decode(t *testing.T, messages [][]byte) (template json.RawMessage, answers []answer) {
	t.Helper()
	var in bytes.Buffer
	for _, m := range messages {
		in.WriteString(base64.StdEncoding.EncodeToString(m) + "\n")
	}
	cmd := java(t, "Decode.java")
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("decode with Graylog's classes: %v", err)
	}
	d := json.NewDecoder(bytes.NewReader(out))
	d.UseNumber()
	if err := d.Decode(&template); err != nil {
		t.Fatal(err)
	}
	for range messages {
		var a answer
		if err := d.Decode(&a); err != nil {
			t.Fatalf("answer %d of %d: %v", len(answers), len(messages), err)
		}
		answers = append(answers, a)
	}
	return template, answers
}

// corpus returns the messages that the lines of the corpus become with the default
// configuration.
func corpus(t *testing.T) (messages [][]byte) {
	t.Helper()
	applied, err := rules.New(rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	redactor, err := redact.New(redact.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := &ship.Pipeline{Parser: parse.New(parse.Options{Zone: time.UTC}), Rules: applied, Redactor: redactor,
		Guard: guard.New(guard.Options{}), GELF: gelf.Options{Host: "web-01"}}
	lines, _ := parsetest.Corpus()
	var records []record.Record
	for i, line := range lines {
		records, _ = p.Records(records[:0], &record.Entry{Message: line, TimeUsec: received + int64(i), Priority: 6, Seq: uint64(i + 1),
			Host: []byte("web-01"), Identifier: []byte("node"), Unit: []byte("checkout-api.service"), PID: []byte("4312"), ID: fmt.Appendf(nil, "id-%d", i)})
		for j := range records {
			messages = append(messages, gelf.Append(nil, &records[j], &p.GELF))
		}
	}
	return messages
}

// mutated returns messages of which most are damaged: those of judgetest with bytes taken
// out, put in, and pieces of others. They are the same every time.
func mutated(n int) (messages [][]byte) {
	r := rand.New(rand.NewPCG(7, 8))
	var pool [][]byte
	add := func(m string) {
		if len(m) < 2000 {
			pool = append(pool, []byte(m))
		}
	}
	for _, c := range judgetest.Messages() {
		add(c.In)
	}
	for _, c := range judgetest.Fields() {
		add(judgetest.With(c.Members))
	}
	pick := func() []byte { return pool[r.IntN(len(pool))] }
	for range n {
		m := slices.Clone(pick())
		for range 1 + r.IntN(3) {
			i := r.IntN(len(m) + 1)
			switch piece := pick(); r.IntN(4) {
			case 0:
				m = slices.Delete(m, i, min(i+1+r.IntN(4), len(m)))
			case 1:
				m = slices.Insert(m, i, []byte(`{}[]",:_ \.eE+-0123456789ntfxu`)[r.IntN(30)])
			case 2:
				m = slices.Insert(m, i, byte(r.IntN(256)))
			case 3:
				from := r.IntN(len(piece) + 1)
				m = slices.Insert(m, i, piece[from:min(from+30, len(piece))]...)
			}
		}
		messages = append(messages, m)
	}
	return messages
}

// compare reports how what Graylog does with a message differs from the verdict on it.
func compare(t *testing.T, v gelf.Verdict, got answer) {
	t.Helper()
	switch v.Outcome {
	case gelf.Refused:
		// An error of the processing is not always told as a failure.
		if got.Document != nil || got.Refused == "" && !strings.HasPrefix(v.Reason, "processing error") {
			t.Errorf("judged %s; Graylog makes %v", v.Summary(), got)
		}
		return
	case gelf.Dropped:
		if got.Document != nil || got.Refused != "" {
			t.Errorf("judged %s; Graylog makes %v", v.Summary(), got)
		}
		return
	}
	if v.Outcome == gelf.IndexFailure && got.Refused != "" {
		return // before it gets there: a time that no message ID can hold
	}
	if got.Document == nil {
		t.Errorf("judged %s; Graylog refuses: %q", v.Summary(), got.Refused)
		return
	}
	want := expected(&v, got.Document)
	for name, value := range got.Document {
		w, known := want[name]
		switch {
		case known && same(w, value):
		case known:
			t.Errorf("%s is %#v for Graylog, judged %#v", name, value, w)
		case name != "streams" && !strings.HasPrefix(name, "gl2_"):
			t.Errorf("%s is in the document, and not in the verdict %s", name, v.Summary())
		}
	}
	for name := range want {
		if _, there := got.Document[name]; !there {
			t.Errorf("%s is judged %#v, and not in the document %v", name, want[name], got.Document)
		}
	}
}

// expected returns the document that a verdict foretells. What Graylog alone can know is
// taken from its document: the time of receipt, which also replaces a timestamp that is
// too far ahead.
func expected(v *gelf.Verdict, document map[string]any) map[string]any {
	const layout = "2006-01-02 15:04:05.000"
	want := map[string]any{"message": v.Message, "source": v.Source, "timestamp": time.UnixMilli(v.TimestampMs).UTC().Format(layout)}
	if v.Source == "" {
		want["source"] = peer
	}
	if v.TimestampMs == 0 {
		want["timestamp"] = document["gl2_receive_timestamp"]
	} else if v.TimestampMs > time.Now().UnixMilli()+graceMs {
		want["timestamp"], want["gl2_original_timestamp"] = document["gl2_receive_timestamp"], document["gl2_original_timestamp"]
	}
	if v.HasLevel {
		want["level"] = v.Level
	}
	for _, f := range v.Fields {
		if f.Fate != gelf.FieldDropped {
			want[f.Name] = f.Value
		}
	}
	return want
}

// same reports whether a value of a document is the one that is judged.
func same(want, got any) bool {
	number, is := got.(json.Number)
	switch w := want.(type) {
	case int64:
		return is && number.String() == strconv.FormatInt(w, 10)
	case float64:
		f, err := number.Float64()
		return is && err == nil && f == w
	}
	return want == got
}

// arrived checks that every member of a message is in the document, apart from the
// verdict: texts without white space at their ends, numbers with their value.
func arrived(t *testing.T, message []byte, document map[string]any) {
	t.Helper()
	var sent map[string]any
	d := json.NewDecoder(bytes.NewReader(message))
	d.UseNumber()
	if err := d.Decode(&sent); err != nil {
		t.Fatalf("%v\n%s", err, message)
	}
	for _, required := range []string{"host", "short_message", "timestamp", "level", "_event_id"} {
		if sent[required] == nil {
			t.Errorf("no %s in %s", required, message)
		}
	}
	for key, value := range sent {
		name := strings.TrimPrefix(key, "_")
		switch key {
		case "version":
			continue
		case "host":
			name = "source"
		case "short_message":
			name = "message"
		case "timestamp":
			seconds, ms, _ := strings.Cut(fmt.Sprint(value), ".")
			at, err := strconv.ParseInt(seconds+(ms + "000")[:3], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			value = time.UnixMilli(at).UTC().Format("2006-01-02 15:04:05.000")
		}
		if text, is := value.(string); is {
			value = strings.TrimFunc(text, func(r rune) bool { return r <= ' ' })
		}
		if number, is := value.(json.Number); is {
			if _, err := number.Int64(); err != nil { // the same number in other digits
				value, err = number.Float64()
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := document[name]; got != value && !same(value, got) {
			t.Errorf("%s was sent as %#v, and is %#v for Graylog", key, value, document[name])
		}
	}
}

// TestGraylog holds what logship makes, and what it foretells, against Graylog's own
// classes.
func TestGraylog(t *testing.T) {
	ours := corpus(t)
	messages := append([][]byte{}, ours...)
	for _, c := range judgetest.Messages() {
		messages = append(messages, []byte(c.In))
	}
	for _, c := range judgetest.Fields() {
		messages = append(messages, []byte(judgetest.With(c.Members)))
	}
	damaged := mutated(5000)
	messages = append(messages, damaged...)
	template, answers := decode(t, messages)
	index := startOpenSearch(t)
	index.must(t, "PUT", "_template/graylog-internal", template)

	t.Run("corpus", func(t *testing.T) {
		for i, m := range ours {
			v := gelf.Judge(m)
			if v.Outcome != gelf.Accepted || v.Worst() > gelf.FieldConverted {
				t.Errorf("%s\n%s", v.Summary(), m)
			}
			compare(t, v, answers[i])
			arrived(t, m, answers[i].Document)
		}
		index.takes(t, "graylog_corpus", answers[:len(ours)])
	})
	answers = answers[len(ours):]
	for i, c := range judgetest.Messages() {
		t.Run(c.Name, func(t *testing.T) {
			compare(t, gelf.Judge([]byte(c.In)), answers[i])
			index.agrees(t, fmt.Sprint("graylog_case_", i), c, answers[i])
		})
	}
	answers = answers[len(judgetest.Messages()):]
	for i, c := range judgetest.Fields() {
		t.Run(c.Name, func(t *testing.T) { compare(t, gelf.Judge([]byte(judgetest.With(c.Members))), answers[i]) })
	}
	answers = answers[len(judgetest.Fields()):]
	t.Run("damaged", func(t *testing.T) {
		for i, m := range damaged {
			compare(t, gelf.Judge(m), answers[i])
			if t.Failed() {
				t.Fatalf("%q", m)
			}
		}
	})
	t.Run("index template", index.holds)
}
