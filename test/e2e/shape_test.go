package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// oddities prints what journald cuts and splits: a line of 200 KB, a secret, and
// a crash. The long line has marks at both ends.
const oddities = `
console.log('_jsonrc:' + JSON.stringify({level: 'info', message: 'long ' + 'ü'.repeat(100000) + ' end', tail: 'here'}));
console.log('_jsonrc:' + JSON.stringify({level: 'info', message: 'login', password: 'hunter2-secret', url: 'postgres://app:hunter2-secret@db/x'}));
setTimeout(() => { throw new TypeError('it broke') }, 100);
`

// TestLongLinesAndCrashesArriveInOnePiece sends them through a real journald.
func TestLongLinesAndCrashesArriveInOnePiece(t *testing.T) {
	m := boot(t)
	install(t, m)
	must(t, m.WriteFile(t.Context(), "/opt/odd.js", []byte(oddities), 0o644))
	// It crashes, so its exit code is not 0.
	if _, _, err := m.Run(t.Context(), "systemd-run", "--quiet", "--wait", "--unit=odd", "node", "/opt/odd.js"); err == nil {
		t.Fatal("the program did not crash")
	}
	logLines(t, m, "behind", 1)
	await(t, m, 1)
	awaitConfirmed(t, m)
	b, err := os.ReadFile(m.Path(receivedPath))
	must(t, err)
	if bytes.Contains(b, []byte("hunter2")) {
		t.Error("a secret has left the machine")
	}
	found := map[string]map[string]any{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var msg map[string]any
		if json.Unmarshal(lines.Bytes(), &msg) != nil || msg["_service_name"] != "odd.service" {
			continue
		}
		short, _ := msg["short_message"].(string)
		found[strings.Fields(short)[0]] = msg
	}
	must(t, lines.Err())
	long, login, crash := found["long"], found["login"], found["TypeError:"]
	if crash == nil {
		crash = found["/opt/odd.js:4"]
	}
	full, _ := long["full_message"].(string)
	if long["_tail"] != "here" || long["_parse_error"] != nil || !strings.HasSuffix(full, " end") || strings.Count(full, "ü") != 100000 {
		t.Errorf("the long line: tail %v, parse error %v, %d bytes", long["_tail"], long["_parse_error"], len(full))
	}
	if login["_password"] != "[REDACTED]" || login["_url"] != "postgres://app:[REDACTED]@db/x" {
		t.Errorf("the login: %v", login)
	}
	trace, _ := crash["full_message"].(string)
	if !strings.Contains(trace, "TypeError: it broke") || !strings.Contains(trace, "    at ") || !strings.Contains(trace, "Node.js v") {
		t.Errorf("the crash: %v\nall: %v", crash, found)
	}
}
