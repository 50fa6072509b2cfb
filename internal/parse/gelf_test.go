package parse

import (
	"strings"
	"testing"

	"sidecar/internal/gelf"
	"sidecar/internal/record"
)

// TestGELFDocument: expected is what Graylog's own input makes of the document
// (graylog.md 1.5), except where it would lose something.
func TestGELFDocument(t *testing.T) {
	p := New(Options{})
	at := func(document, want string) {
		t.Helper()
		e := &record.Entry{Message: []byte(document), GELF: true, Priority: -1, TimeUsec: entryTime, Host: []byte("10.0.0.7")}
		frames, docs := convert(t, p, e)
		if len(docs) != 1 {
			t.Fatalf("%.200q: %d messages, want 1", document, len(docs))
		}
		members(t, document, docs[0], want)
		if v := gelf.Judge([]byte(frames[0])); v.Outcome != gelf.Accepted {
			t.Errorf("%.200q: %v: %s", document, v.Outcome, v.Reason)
		}
	}
	at(`{"version":"1.1","host":"app-7","short_message":"hello","full_message":"hello\nworld","timestamp":1794903329.25,"level":3,"_user_id":42,"_tag":"a b"}`,
		`{"host":"app-7","short_message":"hello","full_message":"hello\nworld","timestamp":1794903329.25,"level":3,"_user_id":42,"_tag":"a b","_level_name":null,"_version":null}`)
	at(`{"short_message":"no host"}`, `{"host":"10.0.0.7","short_message":"no host","timestamp":1794903330,"level":6}`)
	at(`{"host":" ","short_message":"blank host"}`, `{"host":"10.0.0.7"}`)
	at(`{"host":"h","short_message":"emergency","level":0}`, `{"level":0}`)
	at(`{"host":"h","short_message":"text","level":"4"}`, `{"level":4}`)
	at(`{"host":"h","message":"only message"}`, `{"short_message":"only message"}`)
	at(`{"host":"h","short_message":"","full_message":"only full"}`, `{"full_message":"only full"}`)
	at(`{"host":"h","short_message":"x","timestamp":1600000000}`, `{"timestamp":1794903330}`) // not within the window
	// Fields are fields, whatever a line of Winston would mean by them.
	at(`{"host":"h","short_message":"x","level":6,"_severity":"error","_time":"2020-01-01T00:00:00Z","_msg":"m","_stack":"s","_error":"e","_type":"t"}`,
		`{"short_message":"x","level":6,"_severity":"error","_time":"2020-01-01T00:00:00Z","_msg":"m","_stack":"s","_error":"e","_type":"t","full_message":null}`)
	// Graylog drops a boolean, takes "_id" for "id" and knows the reserved names.
	at(`{"host":"h","short_message":"x","_ok":true,"_deep":{"a":1},"_list":[1,2]}`, `{"_ok":"true","_deep_a":1}`)
	// What is no document is shown as it is.
	at(`plain text`, `{"short_message":"plain text"}`)
	at(`{"host":"h","short_message":"cut o`, `{"host":"h"}`)
	at(`{"host":5,"short_message":"x"}`, `{"host":"10.0.0.7","short_message":"x"}`)
}

// TestGELFLongShortMessage: of a short message that is cut, the full message shows the
// whole, once.
func TestGELFLongShortMessage(t *testing.T) {
	long := strings.Repeat("word ", 400) + "end"
	for _, full := range []string{"", long + "\nmore"} {
		e := &record.Entry{Message: []byte(`{"host":"h","short_message":"` + long + `","full_message":"` + strings.ReplaceAll(full, "\n", `\n`) + `"}`), GELF: true, Priority: -1}
		_, docs := convert(t, New(Options{}), e)
		if want := max(full, long); docs[0]["full_message"] != want {
			t.Errorf("full message %.80q…, want %.80q…", docs[0]["full_message"], want)
		}
	}
}
