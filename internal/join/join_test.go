package join

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sidecar/internal/parse/parsetest"
	"sidecar/internal/record"
)

const (
	streamA = "0123456789abcdef0123456789abcdef"
	streamB = "fedcba98765432100123456789abcdef"
	boot    = "00112233445566778899aabbccddeeff"
)

// line returns an entry of a service's standard output.
func line(stream, text string) *record.Entry {
	return &record.Entry{Message: []byte(text), Priority: 6, TimeUsec: 1_794_904_130_000_000, PID: []byte("4312"),
		Transport: []byte("stdout"), StreamID: []byte(stream), BootID: []byte(boot), Unit: []byte("app.service")}
}

// piece returns an entry whose line goes on.
func piece(stream, text string) *record.Entry {
	e := line(stream, text)
	e.LineBreak = []byte("line-max")
	return e
}

// with changes e.
func with(e *record.Entry, change func(*record.Entry)) *record.Entry {
	change(e)
	return e
}

func drain(j *Joiner) (got []string) {
	for e, ok := j.Next(); ok; e, ok = j.Next() {
		got = append(got, string(e.Message))
	}
	return got
}

// joined returns the messages that entries become, with a Flush behind them.
func joined(j *Joiner, entries ...*record.Entry) (got []string) {
	for _, e := range entries {
		j.Add(e, time.Time{})
		got = append(got, drain(j)...)
	}
	j.Flush()
	return append(got, drain(j)...)
}

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %.1000q\nwant %.1000q", got, want)
	}
}

// TestCorpus sends the corpus through one stream, as journald would: without
// blanks at the end and blank lines.
func TestCorpus(t *testing.T) {
	// First and last line of all records that have several.
	records := [][2]int{
		{353, 359}, // format.prettyPrint()
		{360, 371}, // format.json({space: 2})
		{373, 378}, // a raw stack below a document, which passes
		{461, 465}, // console.log of an object
		{470, 490}, // crash
		{502, 507}, // throw of an object
		{509, 516}, // console.trace
		{518, 519}, // warning and hint
		{523, 536}, // syntax error
		{538, 539}, // warning and hint
	}
	lines, _ := parsetest.Corpus()
	var want []string
	var entries []*record.Entry
	for n, raw := range lines {
		text := strings.TrimRight(string(raw), " \t\r")
		if text == "" {
			continue
		}
		entries = append(entries, line(streamA, text))
		i := slices.IndexFunc(records, func(r [2]int) bool { return r[0] < n+1 && n+1 <= r[1] })
		if i >= 0 {
			want[len(want)-1] += "\n" + text
		} else {
			want = append(want, text)
		}
	}
	got := joined(New(Options{MultiLine: true}), entries...)
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("record %d: got %.2000q\nwant %.2000q", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
}

// TestRecords has one record per string; the lines of a record are joined, and
// nothing else.
func TestRecords(t *testing.T) {
	document := `_jsonrc:{"level":"info","message":"ok"}`
	for name, records := range map[string][]string{
		"plain lines":         {"Server listening on http://0.0.0.0:3000", "ready", "[nodemon] 3.1.7", "x"},
		"documents":           {document, document, `{"a":1}`, `  ` + document},
		"error and stack":     {document, "TypeError: x is not a function\n    at run (/srv/a.js:1:2)\n    at main (/srv/a.js:9:2)", document},
		"two errors":          {"Error: a\n    at x (y)", "Error: b\n    at x (y)"},
		"error inside":        {"cannot save Error: lost\n    at x (y)", "next"},
		"error of one line":   {"Error: a", "Server listening", document},
		"error with fields":   {"Error: a\n    at x (y) {\n  errno: -2,\n  code: 'E'\n}", "next"},
		"cause":               {"Error: a\n    at x (y) {\n  [cause]: Error: b\n      at z (y)\n}", "next"},
		"java":                {"java.lang.IllegalStateException: no\n\tat com.x.Y.z(Y.java:1)\n\t... 12 more\nCaused by: java.io.IOException\n\tat a.b(C.java)\n... 3 more", "INFO up"},
		"missing module":      {"Error: Cannot find module './x'\nRequire stack:\n- /srv/a.js\n- /srv/b.js\n    at Module._resolveFilename (node:internal)", "next"},
		"rejection":           {"node:internal/process/promises:288\n            triggerUncaughtException(err, true /* fromPromise */);\n            ^\nError: no\nsecond line of the message\n    at x (y)\nNode.js v20.20.2", "next"},
		"emitted":             {"node:events:495\n      throw er; // Unhandled 'error' event\n      ^\nError: listen EADDRINUSE: address already in use :::3000\n    at Server.setupListenHandle [as _listen2] (node:net:1817:16)\nEmitted 'error' event on Server instance at:\n    at emitErrorNT (node:net:1796:8) {\n  code: 'EADDRINUSE',\n  port: 3000\n}\nNode.js v20.20.2"},
		"throw of a string":   {"/srv/throw.js:1\nthrow 'x'\n^\nx\n(Use `node --trace-uncaught ...` to show where the exception was thrown)\nNode.js v20.20.2", "next"},
		"ESM":                 {"file:///srv/x.mjs:10\nimport y from 'z'\n       ^\nSyntaxError: no\n    at ModuleJob._instantiate (node:internal)\nNode.js v20.20.2"},
		"JSON.parse":          {"undefined:1\n{bad\n ^\nSyntaxError: Unexpected token b in JSON at position 1\n    at JSON.parse (<anonymous>)\nNode.js v20.20.2"},
		"location only":       {"/srv/app/index.js:12", document, "localhost:3000", "ready"},
		"mark too late":       {"/srv/app/index.js:12\nx\n  y\n  ^", "z"},
		"location, no mark":   {"/srv/app/index.js:12\nready", "set", "go"},
		"crash, then restart": {"/srv/a.js:1\nx\n^\nError: a", document, "Server listening"},
		"assertion": {"AssertionError [ERR_ASSERTION]: Expected values to be strictly deep-equal:\n+ actual - expected\n  {\n+   a: 1\n-   a: 2\n  }\n    at x (y) {\n  generatedMessage: true,\n}",
			"next"},
		"assertion in one line": {"node:assert:126\n  throw new AssertionError(obj);\n  ^\nAssertionError [ERR_ASSERTION]: Expected values to be strictly equal:\n1 !== 2\n    at x (y) {\n  operator: 'strictEqual'\n}\nNode.js v20.20.2"},
		"out of memory": {"<--- Last few GCs --->\n[1:0x5] 29 ms: Mark-sweep 3.9 (4.0) -> 3.6 (5.0) MB[1:0x5] 31 ms: Mark-sweep\n<--- JS stacktrace --->\nFATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n 1: 0xb9a330 node::Abort() [node]\n----- Native stack trace -----\n 2: 0xaa07ee  [node]",
			document},
		"fatal error":        {"# Fatal error in , line 0\n# unreachable code\n#\n#FailureMessage Object: 0x7ffd\n 1: 0xb9a330 [node]", "2026-11-17 08:15:30 started"},
		"Go":                 {"panic: boom\ngoroutine 1 [running]:\nmain.main()\n\t/srv/main.go:12 +0x1d\nexit status 2", document},
		"Python":             {"Traceback (most recent call last):\n  File \"x.py\", line 1, in <module>\n    main()\nValueError: no", "next"},
		"pretty JSON":        {"_jsonrc:{\n  \"message\": \"a } b \\\" ]\",\n  \"nested\": {\n    \"a\": [\n      1\n    ]\n  }\n}", "}", document},
		"pretty JSON, bare":  {"{\n  \"a\": {\n    \"b\": 1\n  }\n}", "{\n  \"a\": 2\n}", "next"},
		"pretty JSON, group": {"  _jsonrc:{\n    \"a\": 1\n  }", "  indented"},
		"pretty array":       {"_jsonrc:[\n  1,\n  {\n    \"a\": 1\n  }\n]", "next"},
		"inspected":          {"_jsonrc: {\n  level: 'info',\n  err: Error: can't { do\n      at x (y),\n  m: Map(1) { 'a' => 1 }\n}", "next"},
		"inspected, old":     {"_jsonrc: { level: 'info',\n  message: 'x' }", "next"},
		"inspected, colours": {"_jsonrc: { level: \x1b[32m'info'\x1b[39m,\n  message: 'x' }", "  next"},
		"inspected class":    {"user Foo {\n  a: 1\n}", "next"},
		"colours":            {"{\n  a: \x1b[33m1\x1b[39m,\n  b: [\n    \x1b[33m2\x1b[39m\n  ]\n}", "next"},
		"document cut":       {"_jsonrc:{", document},
		"table":              {"┌───┬───┐\n│ a │ 1 │\n├───┼───┤\n│ b │ 2 │\n└───┴───┘", "next"},
		"heading":            {"Routes:\n  GET /\n  POST /", "ready"},
		"stack without head": {"    at x (y)\n    at z (y)", document},
		"all lines indented": {"  a", "  b", "  c"},
		"learned":            {"Something bad happened", "  because: x", "It went on\n  because: y", "done", document},
		"times": {"panic: x", "2026-11-17T08:15:30Z a", "panic: x", "[2026-11-17 08:15:30] a", "panic: x", "08:15:30 a", "panic: x", "Nov 17 08:15:30 a",
			"panic: x", "Nov  7 08:15:30 a", "panic: x", "\x1b[32m2026/11/17 a", "panic: x", "17/Nov/2026:08:15:30 a"},
		"priority":  {"panic: x", "<6>started", "panic: x\n<not a priority>"},
		"NUL":       {"a", "b"},
		"blank":     {" ", "Error: a\n\n    at x (y)", "next"},
		"Node said": {"Node.js v20.20.2", "next"},
	} {
		t.Run(name, func(t *testing.T) {
			var entries []*record.Entry
			for _, r := range records {
				for text := range strings.SplitSeq(r, "\n") {
					entries = append(entries, line(streamA, text))
				}
			}
			same(t, joined(New(Options{MultiLine: true}), entries...), records...)
			var lines []string
			for _, e := range entries {
				lines = append(lines, string(e.Message))
			}
			same(t, joined(New(Options{}), entries...), lines...)
		})
	}
}

// TestWaits says of single lines whether they are held back.
func TestWaits(t *testing.T) {
	waits := func(want bool, text string, change func(*record.Entry)) {
		t.Helper()
		j := New(Options{MultiLine: true})
		e := line(streamA, text)
		if change != nil {
			change(e)
		}
		j.Add(e, time.Time{})
		if got := j.Pending() == 1; got != want {
			t.Errorf("%q waits: %v, want %v", text, got, want)
		}
		if got, ok := j.Next(); ok == want || ok && got != e {
			t.Errorf("%q: Next has %v %v", text, got, ok)
		}
	}
	waits(false, "Server listening on http://0.0.0.0:3000", nil)
	waits(false, `_jsonrc:{"message":"Error: x"}`, nil)
	waits(false, `x _jsonrc:{"message":"Error: x"}`, nil)
	waits(false, `{"message":"Error: x"}`, nil)
	waits(false, "_jsonrc:undefined", nil)
	waits(false, `_jsonrc:{"level":"info","message":"cut he`, nil)
	waits(false, "  indented", nil)
	waits(false, "}", nil)
	waits(false, "", nil)
	waits(true, "Error: x", nil)
	waits(true, "MyError [CODE]: x", nil)
	waits(true, "[Error: x] {", nil)
	waits(true, "Unknown Error", nil)
	waits(false, "Errors found", nil)
	waits(false, "12 Error reports", nil)
	waits(true, "_jsonrc:{", nil)
	waits(true, "_jsonrc: {", nil)
	waits(true, "{", nil)
	waits(true, "    at x (y)", nil)
	waits(true, "Error: x", func(e *record.Entry) { e.Transport = nil }) // a file
	waits(false, "Error: x", func(e *record.Entry) { e.StreamID = nil })
	waits(false, "Error: x", func(e *record.Entry) { e.LineBreak = []byte("eof") })
	waits(false, "Error: x", func(e *record.Entry) { e.LineBreak = []byte("pid-change") })
	waits(true, "Error: x", func(e *record.Entry) { e.LineBreak = []byte("nul") })
	waits(true, "x", func(e *record.Entry) { e.LineBreak = []byte("line-max") })
	waits(true, "x", func(e *record.Entry) { e.StreamID, e.Partial = nil, true })
	waits(false, "x", func(e *record.Entry) { e.LineBreak, e.StreamID = []byte("line-max"), nil }) // cannot be told from another's
}

// TestPieces has the cases of a line that journald or a container's log driver
// cut.
func TestPieces(t *testing.T) {
	pid := func(e *record.Entry, pid string) *record.Entry { e.PID = []byte(pid); return e }
	container := func(text string, partial bool, priority int8) *record.Entry {
		return &record.Entry{Message: []byte(text), Priority: priority, Partial: partial, Container: []byte("web"), PID: []byte("77"), Transport: []byte("journal")}
	}
	broken := func(stream, text, why string) *record.Entry {
		return with(line(stream, text), func(e *record.Entry) { e.LineBreak = []byte(why) })
	}
	for name, c := range map[string]struct {
		in   []*record.Entry
		want []string
	}{
		"newline":          {[]*record.Entry{piece(streamA, "a"), piece(streamA, "b"), line(streamA, "c"), line(streamA, "d")}, []string{"abc", "d"}},
		"end of file":      {[]*record.Entry{piece(streamA, "a"), broken(streamA, "b", "eof"), line(streamA, "d")}, []string{"ab", "d"}},
		"NUL":              {[]*record.Entry{piece(streamA, "a"), broken(streamA, "b", "nul"), line(streamA, "d")}, []string{"ab", "d"}},
		"process changes":  {[]*record.Entry{piece(streamA, "a"), broken(streamA, "b", "pid-change"), pid(line(streamA, "c"), "9")}, []string{"ab", "c"}},
		"another process":  {[]*record.Entry{piece(streamA, "a"), pid(line(streamA, "b"), "9")}, []string{"a", "b"}},
		"another's piece":  {[]*record.Entry{piece(streamA, "a"), pid(piece(streamA, "b"), "9"), pid(line(streamA, "c"), "9")}, []string{"a", "bc"}},
		"another boot":     {[]*record.Entry{piece(streamA, "a"), with(line(streamA, "b"), func(e *record.Entry) { e.BootID = []byte("x") }), line(streamA, "c")}, []string{"b", "ac"}},
		"another stream":   {[]*record.Entry{piece(streamA, "a"), piece(streamB, "1"), line(streamA, "b"), line(streamB, "2")}, []string{"ab", "12"}},
		"not a document":   {[]*record.Entry{piece(streamA, "a"), line(streamA, "_jsonrc:{}")}, []string{"a_jsonrc:{}"}},
		"container":        {[]*record.Entry{container("a", true, 6), container("b", true, 6), container("c", false, 6), container("d", false, 6)}, []string{"abc", "d"}},
		"empty end":        {[]*record.Entry{container("a", true, 6), container("", true, 6), container("", false, 6), container("d", false, 6)}, []string{"a", "d"}},
		"container stderr": {[]*record.Entry{container("a", true, 6), container("1", true, 3), container("b", false, 6), container("2", false, 3)}, []string{"ab", "12"}},
		"two containers": {[]*record.Entry{container("a", true, 6), with(container("1", false, 6), func(e *record.Entry) { e.Container = []byte("db") }), container("b", false, 6)},
			[]string{"1", "ab"}},
		"end of a stack":    {[]*record.Entry{line(streamA, "Error: x"), broken(streamA, "    at y", "eof"), line(streamA, "    at z")}, []string{"Error: x\n    at y", "    at z"}},
		"stack of pieces":   {[]*record.Entry{piece(streamA, "Error: "), line(streamA, "x"), piece(streamA, "    at "), line(streamA, "y"), line(streamA, "z")}, []string{"Error: x\n    at y", "z"}},
		"piece behind":      {[]*record.Entry{line(streamA, "Error: x"), piece(streamA, "a"), line(streamA, "b")}, []string{"Error: x", "ab"}},
		"pretty, in pieces": {[]*record.Entry{line(streamA, "_jsonrc:{"), piece(streamA, `  "a": "`), line(streamA, `}"`), line(streamA, "}"), line(streamA, "z")}, []string{"_jsonrc:{\n  \"a\": \"}\"\n}", "z"}},
		"no end":            {[]*record.Entry{piece(streamA, "a"), piece(streamA, "b")}, []string{"ab"}},
	} {
		t.Run(name, func(t *testing.T) { same(t, joined(New(Options{MultiLine: true}), c.in...), c.want...) })
	}
}

// TestEntry checks the values of a joined entry, and that none of them is in
// memory that the source uses again.
func TestEntry(t *testing.T) {
	j := New(Options{MaxBytes: 100})
	// Every slice of an entry, also ones that are added later, gets its own content.
	fill := func(text string, to *record.Entry) {
		v := reflect.ValueOf(to).Elem()
		for i := range v.NumField() {
			if f := v.Field(i); f.Type() == reflect.TypeFor[[]byte]() {
				f.SetBytes([]byte(v.Type().Field(i).Name + text))
			}
		}
		to.StreamID, to.BootID, to.PID = []byte(streamA), []byte(boot), []byte("1")
	}
	var first, last record.Entry
	fill("-1", &first)
	fill("-2", &last)
	first.TimeUsec, first.Priority, first.Seq, first.Origin = 1000, 3, 7, record.Origin{File: 1, Before: 5}
	last.TimeUsec, last.Priority, last.Origin = 2000, 6, record.Origin{File: 2, Before: 9}
	first.LineBreak, last.LineBreak = []byte("line-max"), nil
	want := first
	reflectClone(&want)
	want.Message, want.LineBreak = []byte("Message-1Message-2"), nil

	j.Add(&first, time.Time{})
	if held, want := j.Held(nil), []record.Origin{{File: 1, Before: 5}}; !slices.Equal(held, want) {
		t.Errorf("held %v, want %v", held, want)
	}
	scribble(&first)
	j.Add(&last, time.Time{})
	scribble(&last)
	if held, want := j.Held(nil), []record.Origin{{File: 1, Before: 5}, {File: 2, Before: 9}}; !slices.Equal(held, want) {
		t.Errorf("held %v, want %v: each file keeps a position of its own", held, want)
	}
	got, ok := j.Next()
	if !ok {
		t.Fatal("nothing is complete")
	}
	if diff := cmp.Diff(want, *got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if held := j.Held(nil); len(held) > 0 {
		t.Errorf("%v is held, but delivered", held)
	}
}

func reflectClone(e *record.Entry) {
	v := reflect.ValueOf(e).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Type() == reflect.TypeFor[[]byte]() {
			f.SetBytes(bytes.Clone(f.Bytes()))
		}
	}
}

// scribble overwrites the memory of e, as a source does.
func scribble(e *record.Entry) {
	v := reflect.ValueOf(e).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Type() == reflect.TypeFor[[]byte]() {
			for k := range f.Bytes() {
				f.Bytes()[k] = '#'
			}
		}
	}
}
