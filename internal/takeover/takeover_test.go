package takeover

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sidecar/internal/journal"
)

// at returns the cursor of entry n, as a test of a shipper would have left it.
func at(n int) string {
	return journal.Cursor{SeqnumID: journal.ID{1, 2, 3}, Seqnum: uint64(n), Boot: journal.ID{4}, MonotonicUsec: uint64(5000 + n),
		RealtimeUsec: uint64(1_790_000_000_000_000 + n), XorHash: 0x9e37 * uint64(n)}.String()
}

// files writes files by name into a directory and returns it.
func files(t *testing.T, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func file(t *testing.T, text string) string {
	t.Helper()
	return filepath.Join(files(t, map[string]string{"state": text}), "state")
}

// ok wants these checkpoints, each as INPUT|CURSOR.
func ok(t *testing.T, shipper, path string, want ...string) {
	t.Helper()
	found, err := Read(shipper, path)
	var got []string
	for _, c := range found {
		got = append(got, c.Input+"|"+c.Cursor.String())
	}
	if err != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s: %v, got\n%s\nwant\n%s", shipper, err, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// bad wants an error that says so, behind what is common to all of them.
func bad(t *testing.T, shipper, path, want string) {
	t.Helper()
	found, err := Read(shipper, path)
	if prefix := fmt.Sprintf("read the state of %s in %s: ", shipper, path); err == nil || err.Error() != prefix+want {
		t.Errorf("%s: %v, %v\nwant the error %s%s", shipper, found, err, prefix, want)
	}
}

const nothing = "it holds no cursor of the journal"

func TestVector(t *testing.T) {
	ok(t, "vector", file(t, at(7)+"\n"), "|"+at(7))
	// A shorter cursor is written over a longer one.
	ok(t, "vector", file(t, at(7)+"\nb;x=12345\n"), "|"+at(7))
	bad(t, "vector", file(t, at(7)), "its line has no end: it was not written to its end")
	bad(t, "vector", file(t, ""), nothing)
	bad(t, "vector", file(t, "\n"), nothing)
	bad(t, "vector", file(t, "hello\n"), `journal: not a cursor: "hello"`)
	if _, err := Read("vector", filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	if _, err := Read("vector", t.TempDir()); err == nil {
		t.Error("a directory is taken for a file")
	}
}

// The file of the test was written by rsyslog 8.2302 with imjournal, of Debian 12.
func TestRsyslog(t *testing.T) {
	const real = "s=2fe57dfae506401ebff12a05f8d89b89;i=5;b=0123456789abcdef0123456789abcdef;m=138c;t=65bfeda25e004;x=9b11f5860284ee0d"
	ok(t, "rsyslog", filepath.Join("testdata", "imjournal.state"), "|"+real)
	ok(t, "rsyslog", file(t, at(7)+"\n"), "|"+at(7))
	bad(t, "rsyslog", file(t, " \n"), nothing)
	bad(t, "rsyslog", file(t, "SQLite format 3\x00"), `journal: not a cursor: "SQLite"`)
}

func TestJournalbeat(t *testing.T) {
	const head = "update_time: 2021-10-14T08:15:30.327454Z\njournal_entries:"
	entry := func(path, cursor string) string {
		return "\n- path: " + path + "\n  cursor: " + cursor + "\n  realtime_timestamp: 1790000000000007\n  monotonic_timestamp: 5007"
	}
	ok(t, "journalbeat", file(t, head+entry("LOCAL_SYSTEM_JOURNAL", at(7))+"\n"), "LOCAL_SYSTEM_JOURNAL|"+at(7))
	ok(t, "journalbeat", file(t, head+entry("/a.journal", at(9))+entry("/b.journal", at(8))+entry("/c.journal", `""`)+"\n"),
		"/b.journal|"+at(8), "/a.journal|"+at(9))
	bad(t, "journalbeat", file(t, head+" []\n"), nothing)
	bad(t, "journalbeat", file(t, "update_time: 2021-10-14T08:15:30Z\n"), "it has no journal_entries")
	bad(t, "journalbeat", file(t, head+entry("x", "s=1")), `journal: not a cursor: "s=1"`)
}

// meta is the file that every registry has.
const meta = `{"version":"1"}`

// set and remove are operations of a registry's log.
func set(id int, key, value string) string {
	return fmt.Sprintf("{\"op\":\"set\",\"id\":%d}\n{\"k\":%q,\"v\":%s}\n", id, key, value)
}

func remove(id int, key string) string {
	return fmt.Sprintf("{\"op\":\"remove\",\"id\":%d}\n{\"k\":%q}\n", id, key)
}

// position is what the registry holds of an input of type journald.
func position(cursor string) string {
	return fmt.Sprintf(`{"ttl":0,"updated":[2061957342080,1790000000],"cursor":{"version":1,"position":%q,"realtimetimestamp":1790000000000007,"monotonictimestamp":5007}}`, cursor)
}

func TestFilebeat(t *testing.T) {
	const key = "journald::everything::LOCAL_SYSTEM_JOURNAL"
	const want = "everything::LOCAL_SYSTEM_JOURNAL|"
	const other = `{"cursor":{"offset":12},"ttl":-1}`
	const logInput = `{"source":"/var/log/x","offset":12,"timestamp":[2061957342080,1790000000],"ttl":-1}`
	snapshot := func(position string) string {
		return `[{"_key":"filebeat::logs::native::1-2","source":"/var/log/x","cursor":null},` + "\n" +
			`{"_key":"` + key + `",` + position[1:] + "\n]"
	}
	for _, c := range []struct {
		files map[string]string
		want  []string
	}{
		{map[string]string{"log.json": set(1, key, position(at(7)))}, []string{want + at(7)}},
		{map[string]string{"log.json": set(1, key, position(at(7))) + set(2, "filebeat::logs::native::1-2", logInput) + set(3, key, position(at(9)))}, []string{want + at(9)}},
		{map[string]string{"4.json": snapshot(position(at(7)))}, []string{want + at(7)}},
		{map[string]string{"4.json": snapshot(position(at(7))), "3.json": "[", "log.json": ""}, []string{want + at(7)}},
		{map[string]string{"4.json": snapshot(position(at(7))), "10.json": snapshot(position(at(8))), "log.json": set(11, key, position(at(9)))}, []string{want + at(9)}},
		// What is in the snapshot already, and what does not follow on it, does not count.
		{map[string]string{"4.json": snapshot(position(at(7))), "log.json": set(3, key, position(at(5))) + set(4, key, position(at(6)))}, []string{want + at(7)}},
		{map[string]string{"4.json": snapshot(position(at(7))), "log.json": set(4, key, position(at(6))) + set(5, key, position(at(9)))}, []string{want + at(9)}},
		{map[string]string{"4.json": snapshot(position(at(7))), "log.json": set(6, key, position(at(9)))}, []string{want + at(7)}},
		{map[string]string{"log.json": set(1, key, position(at(7))) + set(2, key, position(at(9)))[:60]}, []string{want + at(7)}},
		// Several inputs, those of other types, removed ones.
		{map[string]string{"log.json": set(1, key, position(at(9))) + set(2, "journald::/x.journal", position(at(7))) + set(3, "winlog::a", position(at(1)))}, []string{"/x.journal|" + at(7), want + at(9)}},
		{map[string]string{"log.json": set(1, key, position(at(9))) + set(2, "journald::a", position(at(7))) + remove(3, "journald::a")}, []string{want + at(9)}},
		{map[string]string{"log.json": set(1, key, position(at(9))) + set(2, "journald::new", position("")) + set(3, "journald::x", other)}, []string{want + at(9)}},
		// As doc.go of the package has it, and one without the times.
		{map[string]string{"log.json": `{"op": "set", "id": 1}` + "\n" + `{"K":"` + key + `","V":{"cursor": {"position": "` + at(7) + `", "version": 1}}}` + "\n"}, []string{want + at(7)}},
	} {
		c.files["meta.json"] = meta
		dir := files(t, c.files)
		ok(t, "filebeat", dir, c.want...)
		if _, hasLog := c.files["log.json"]; hasLog {
			ok(t, "filebeat", filepath.Join(dir, "log.json"), c.want...)
		}
	}
	bad(t, "filebeat", t.TempDir(), "it is not a registry: it has no meta.json")
	bad(t, "filebeat", files(t, map[string]string{"meta.json": meta}), nothing)
	bad(t, "filebeat", files(t, map[string]string{"meta.json": `{"version":"2"}`}), "meta.json: the registry has version \"2\", known is 1")
	bad(t, "filebeat", files(t, map[string]string{"meta.json": "{"}), "meta.json: unexpected end of JSON input")
	bad(t, "filebeat", files(t, map[string]string{"meta.json": meta, "1.json": "["}), "1.json: unexpected end of JSON input")
	bad(t, "filebeat", files(t, map[string]string{"meta.json": meta, "log.json": set(1, key, position("x"))}), `journal: not a cursor: "x"`)
}

// What Fluent Bit has SQLite do (plugins/in_systemd/systemd_db.h).
const (
	createCursor = "CREATE TABLE IF NOT EXISTS in_systemd_cursor (  cursor  TEXT NOT NULL,  updated INTEGER);"
	insertCursor = "INSERT INTO in_systemd_cursor (cursor, updated)  VALUES ('%s', %d);"
	updateCursor = "UPDATE in_systemd_cursor SET cursor='%s', updated=%d;"
)

// sqlite has the sqlite3 program make a database.
func sqlite(t *testing.T, statements ...string) string {
	t.Helper()
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		line := "needs sqlite3 (package sqlite3): " + err.Error()
		if os.Getenv("CI") == "true" {
			t.Fatal(line)
		}
		t.Skip(line)
	}
	path := filepath.Join(t.TempDir(), "flb.db")
	cmd := exec.Command(program, "-bail", path)
	cmd.Stdin = strings.NewReader(strings.Join(statements, "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sqlite3: %v: %s", err, out)
	}
	return path
}

func TestFluentBit(t *testing.T) {
	first, moved := fmt.Sprintf(insertCursor, at(1), 1790000000), fmt.Sprintf(updateCursor, at(7), 1790000001)
	for name, statements := range map[string][]string{
		"new":                    {createCursor, fmt.Sprintf(insertCursor, at(7), 1790000000)},
		"moved":                  {createCursor, first, moved},
		"small pages":            {"PRAGMA page_size=512;", createCursor, first, moved},
		"large pages":            {"PRAGMA page_size=65536;", createCursor, first, moved},
		"synchronous":            {"PRAGMA synchronous=2;", "PRAGMA journal_mode=WAL;", createCursor, first, moved},
		"duplicates":             {createCursor, first, fmt.Sprintf(insertCursor, at(2), 1), fmt.Sprintf(insertCursor, at(7), 0)},
		"a row ID of nine bytes": {createCursor, strings.Replace(strings.Replace(fmt.Sprintf(insertCursor, at(7), 0), "(cursor", "(rowid, cursor", 1), "('", "(-5, '", 1)},
		"many rows":              {"PRAGMA page_size=512;", createCursor, many(300), fmt.Sprintf(insertCursor, at(7), 0)},
		"removed again":          {"PRAGMA page_size=512;", createCursor, many(300), fmt.Sprintf(insertCursor, at(7), 0), "DELETE FROM in_systemd_cursor WHERE ROWID < (SELECT MAX(ROWID) FROM in_systemd_cursor);"},
		"tables of other inputs": {"PRAGMA page_size=512;", "CREATE TABLE in_tail_files (id INTEGER PRIMARY KEY, name TEXT NOT NULL, offset INTEGER, inode INTEGER, created INTEGER, rotated INTEGER DEFAULT 0);",
			others(40), "CREATE INDEX i ON in_tail_files (name);", createCursor, first, moved},
		"a long schema": {"PRAGMA page_size=512;", strings.Replace(createCursor, "updated", strings.Repeat("/* x */ ", 100)+"updated", 1), first, moved},
	} {
		t.Run(name, func(t *testing.T) { ok(t, "fluent-bit", sqlite(t, statements...), "|"+at(7)) })
	}
}

// Of a row that goes on on other pages, a text that is cut off is no text.
func TestOverflow(t *testing.T) {
	whole, cut := 0, 0
	for length := 1000; length < 1508; length += 50 {
		path := sqlite(t, "PRAGMA page_size=512;", "CREATE TABLE in_systemd_cursor (cursor TEXT, updated INTEGER, note TEXT);", fmt.Sprintf(insertCursor, at(1), 0),
			fmt.Sprintf("INSERT INTO in_systemd_cursor VALUES ('%s', 0, '%s');", at(7), strings.Repeat("x", length)))
		found, err := Read("fluent-bit", path)
		switch {
		case err == nil && found[0].Cursor.String() == at(7):
			whole++
		case err != nil && strings.HasSuffix(err.Error(), nothing):
			cut++
		default:
			t.Errorf("a note of %d bytes: %v, %v", length, found, err)
		}
	}
	if whole == 0 || cut == 0 {
		t.Errorf("%d rows are whole, %d are cut: the test shows nothing", whole, cut)
	}
}

func TestColumns(t *testing.T) {
	path := sqlite(t, "CREATE TABLE x (a, b, c, d, e, f, g, h, i, j, k, l, m, n);",
		"INSERT INTO x VALUES (0, 1, -1, 127, 128, -32768, 8388607, 2147483648, 1099511627776, -1152921504606846976, 0.5, NULL, x'00ff', 'end');")
	want := []value{{}, {number: 1}, {number: -1}, {number: 127}, {number: 128}, {number: -32768}, {number: 8388607}, {number: 2147483648},
		{number: 1099511627776}, {number: -1152921504606846976}, {}, {}, {text: "\x00\xff"}, {text: "end"}}
	db, err := openDatabase(path)
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	err = db.table("x", func(got []value) {
		rows++
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	if err != nil || rows != 1 {
		t.Errorf("%d rows, %v", rows, err)
	}
}

// The rows of a tree of several levels come in their order.
func TestRowOrder(t *testing.T) {
	path := sqlite(t, "PRAGMA page_size=512;", "CREATE TABLE x (n, filler);",
		"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 5000) INSERT INTO x SELECT n, 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' FROM c;")
	db, err := openDatabase(path)
	if err != nil {
		t.Fatal(err)
	}
	next := int64(1)
	err = db.table("x", func(row []value) {
		if row[0].number != next {
			t.Fatalf("row %d, want %d", row[0].number, next)
		}
		next++
	})
	if err != nil || next != 5001 {
		t.Errorf("%v, next row %d", err, next)
	}
}

// many are statements that add n rows.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, insertCursor, at(100+i), i)
	}
	return b.String()
}

// others are statements that add n tables.
func others(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "CREATE TABLE other%d (a TEXT, b INTEGER, c REAL); INSERT INTO other%d VALUES ('in_systemd_cursor', -1, 0.5);", i, i)
	}
	return b.String()
}

func TestFluentBitRefuses(t *testing.T) {
	bad(t, "fluent-bit", sqlite(t, createCursor), nothing)
	bad(t, "fluent-bit", sqlite(t, "CREATE TABLE x (a);"), "it has no table in_systemd_cursor")
	bad(t, "fluent-bit", sqlite(t, "PRAGMA encoding='UTF-16';", createCursor), "its texts are UTF-16, want UTF-8")
	bad(t, "fluent-bit", sqlite(t, createCursor, fmt.Sprintf(insertCursor, "x", 0)), `journal: not a cursor: "x"`)
	bad(t, "fluent-bit", file(t, at(7)), errNotDatabase.Error())
	path := sqlite(t, createCursor, fmt.Sprintf(insertCursor, at(7), 0))
	for _, suffix := range []string{"-wal", "-journal"} {
		if err := os.WriteFile(path+suffix, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		bad(t, "fluent-bit", path, "it has unfinished changes in "+path+suffix+": stop its program, or run sqlite3 "+path+" 'PRAGMA wal_checkpoint(TRUNCATE)'")
		if err := os.Truncate(path+suffix, 0); err != nil { // as persistent ones are left
			t.Fatal(err)
		}
		ok(t, "fluent-bit", path, "|"+at(7))
	}
	// A tree that leads back into itself.
	b, err := os.ReadFile(filepath.Join("testdata", "fluent-bit.db"))
	if err != nil {
		t.Fatal(err)
	}
	const page = 512
	copy(b[page:], []byte{5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}) // no child but the last, which is this page
	bad(t, "fluent-bit", file(t, string(b)), errNotDatabase.Error())
}

func TestUnknownShipper(t *testing.T) {
	if _, err := Read("logstash", "x"); err == nil || err.Error() != `unknown shipper "logstash": want vector, rsyslog, fluent-bit, filebeat, journalbeat` {
		t.Errorf("%v", err)
	}
	for _, name := range Shippers() {
		if _, err := Read(name, filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLargeFile(t *testing.T) {
	path := file(t, "")
	if err := os.Truncate(path, maxFileBytes+1); err != nil {
		t.Fatal(err)
	}
	bad(t, "vector", path, "it is larger than 64 MiB")
}

// FuzzRead reads whatever a file may hold: a cursor or an error, and no panic.
func FuzzRead(f *testing.F) {
	for _, name := range []string{"imjournal.state", "fluent-bit.db"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(at(7) + "\n"))
	f.Add([]byte(set(1, "journald::x", position(at(7)))))
	f.Add([]byte("journal_entries:\n- path: x\n  cursor: " + at(7) + "\n"))
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "meta.json"), []byte(meta), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(dir, "log.json")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, shipper := range Shippers() {
			found, err := Read(shipper, path)
			if (len(found) == 0) == (err == nil) {
				t.Errorf("%s: %v, %v", shipper, found, err)
			}
			for _, c := range found {
				if c.Cursor.IsZero() {
					t.Errorf("%s: no cursor for %q", shipper, c.Input)
				}
			}
		}
	})
}
