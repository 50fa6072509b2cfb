package probe

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sidecar/internal/health"
)

func TestConnect(t *testing.T) {
	want(t, probe(t, "tcp://"+listen(t, "tcp", hangs), Env{}), health.Pass)
	want(t, probe(t, "unix:"+listen(t, "unix", hangs), Env{}), health.Pass)
	want(t, probe(t, "unix:"+filepath.Join(t.TempDir(), "none"), Env{}), health.Fail, "no such file")
	mail := func(c net.Conn) { io.WriteString(c, "220 mx "); io.WriteString(c, "ESMTP\r\n"); hangs(c) }
	want(t, probe(t, "tcp://"+listen(t, "tcp", mail)+"#expect=ESMTP", Env{}), health.Pass, "220 mx")
	want(t, probe(t, "tcp://"+listen(t, "tcp", mail)+"#expect=SSH&timeout=100ms", Env{}), health.Fail, "no answer in time")
	want(t, probe(t, "tcp://"+listen(t, "tcp", func(c net.Conn) { io.WriteString(c, "421 busy\r\n") })+"#expect=220", Env{}), health.Fail, "closed after", "421 busy")
	want(t, probe(t, "tcp://"+listen(t, "tcp", func(c net.Conn) { c.Write(bytes.Repeat([]byte("x"), 1<<20)) })+"#expect=220", Env{}), health.Fail, "not in the first")
	datagram := filepath.Join(t.TempDir(), "log")
	c, err := net.ListenPacket("unixgram", datagram)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want(t, probe(t, "unix:"+datagram, Env{}), health.Pass)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	r := probe(t, "tcp://"+l.Addr().String(), Env{})
	want(t, r, health.Fail)
	if r.Text != "connect: connection refused" {
		t.Errorf("text %q", r.Text)
	}
}

// bulk is a bulk string of Redis.
func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

func TestRedis(t *testing.T) {
	const master = "# Replication\r\nrole:master\r\nconnected_slaves:1\r\n"
	replica := func(link string, age int) string {
		return fmt.Sprintf("role:slave\r\nmaster_link_status:%s\r\nmaster_last_io_seconds_ago:%d\r\nmaster_sync_in_progress:%d\r\n", link, age, len(link)%2)
	}
	for _, c := range []struct {
		name, answer, options string
		state                 health.State
		words                 string
	}{
		{"master", "+PONG\r\n" + bulk(master), "", health.Pass, "master"},
		{"master, as it should be", "+PONG\r\n" + bulk(master), "role=master&min_replicas=1", health.Pass, ""},
		{"master with few replicas", "+PONG\r\n" + bulk(master), "min_replicas=2", health.Warn, "master with 1 replicas"},
		{"master, and should be replica", "+PONG\r\n" + bulk(master), "role=replica", health.Fail, "role is master"},
		{"replica", "+PONG\r\n" + bulk(replica("up", 10)), "role=replica", health.Pass, "replica"},
		{"replica that lags", "+PONG\r\n" + bulk(replica("up", 11)), "", health.Warn, "more than 10 s"},
		{"replica, and should be master", "+PONG\r\n" + bulk(replica("up", 1)), "role=master", health.Fail, "role is slave"},
		{"replica without its master", "+PONG\r\n" + bulk(replica("down", -1)), "", health.Warn, "down"},
		{"replica that synchronizes", "+PONG\r\n" + bulk(replica("connecting...", -1)), "", health.Warn, "loading"},
		{"sentinel", "+PONG\r\n" + bulk("role:sentinel\r\n"), "", health.Pass, ""},
		{"no role", "+PONG\r\n" + bulk("x"), "", health.Warn, "no role"},
		{"loading", "-LOADING Redis is loading the dataset in memory\r\n", "", health.Starting, "LOADING"},
		{"master is down", "-MASTERDOWN Link with MASTER is down\r\n", "", health.Fail, "MASTERDOWN"},
		{"wants a password", "-NOAUTH Authentication required.\r\n", "", health.Warn, "NOAUTH"},
		{"may not INFO", "+PONG\r\n-NOPERM this user has no permissions\r\n", "", health.Warn, "NOPERM"},
		{"out of connections", "-ERR max number of clients reached\r\n", "", health.Fail, "max number"},
		{"another server", "HTTP/1.1 400 Bad Request\r\n\r\n", "", health.Fail, "not of its protocol"},
		{"another answer", "+PANG\r\n", "", health.Fail, "PANG"},
		{"ends", "+PONG\r\n$100\r\nrole", "", health.Fail, "EOF"},
		{"a long line", "+" + strings.Repeat("x", 5000) + "\r\n", "", health.Fail, "not of its protocol"},
		{"a very long string", "+PONG\r\n$2000000000\r\n", "", health.Fail, "not of its protocol"},
		{"a string without its end", "+PONG\r\n$3\r\nabcxx", "", health.Fail, "not of its protocol"},
		{"no string", "+PONG\r\n$-1\r\n", "", health.Fail, "not of its protocol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want(t, probe(t, "redis://"+listen(t, "tcp", says(c.answer))+"#"+c.options, Env{}), c.state, c.words)
		})
	}
	t.Run("password", func(t *testing.T) {
		got := make(chan string, 2)
		address := listen(t, "unix", func(c net.Conn) {
			buf := make([]byte, 4096)
			n, _ := c.Read(buf)
			got <- string(buf[:n])
			io.WriteString(c, "+OK\r\n+PONG\r\n"+bulk(master))
		})
		t.Setenv("PROBE_PASSWORD", "s3cret")
		want(t, probe(t, "redis://"+address+"#password=env:PROBE_PASSWORD", Env{}), health.Pass)
		if r := <-got; r != "*2\r\n$4\r\nAUTH\r\n$6\r\ns3cret\r\n*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n" {
			t.Errorf("sent %q", r)
		}
		want(t, probe(t, "redis://"+address+"#user=u&password=env:PROBE_PASSWORD", Env{}), health.Pass)
		if r := <-got; !strings.HasPrefix(r, "*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$6\r\ns3cret\r\n") {
			t.Errorf("sent %q", r)
		}
		t.Setenv("PROBE_PASSWORD", "")
		want(t, probe(t, "redis://"+address+"#password=env:PROBE_PASSWORD", Env{}), health.Unknown, "PROBE_PASSWORD")
		want(t, probe(t, "redis://"+listen(t, "tcp", says("-WRONGPASS invalid\r\n"))+"#password=file:/dev/null", Env{}), health.Unknown, "empty")
	})
	t.Run("wrong password", func(t *testing.T) {
		t.Setenv("PROBE_PASSWORD", "s3cret")
		r := probe(t, "redis://"+listen(t, "tcp", says("-WRONGPASS invalid username-password pair\r\n"))+"#password=env:PROBE_PASSWORD", Env{})
		want(t, r, health.Fail, "AUTH: WRONGPASS")
	})
}

func FuzzRedis(f *testing.F) {
	for _, s := range []string{"+PONG\r\n", "$3\r\nabc\r\n", "-ERR x\r\n", ":1\r\n", "$-1\r\n", "$9\r\na", "*1\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		reply, err := readReply(bufio.NewReader(bytes.NewReader(b)))
		if err != nil && !errors.Is(err, errReply) && reply != nil || len(reply) > maxReplyBytes {
			t.Errorf("%q beside %v", reply, err)
		}
		c := redis{role: "any", counters: new(Counters)}
		if r := c.judge(b); r.Text == "" || len(r.Text) > maxTextBytes {
			t.Errorf("judged %v", r)
		}
	})
}

// helloReply is an OP_MSG with that document.
func helloReply(doc []byte) string {
	msg := binary.LittleEndian.AppendUint32(nil, uint32(21+len(doc)))
	for _, v := range []uint32{99, mongoRequest, opMsg, 0} {
		msg = binary.LittleEndian.AppendUint32(msg, v)
	}
	return string(append(append(msg, 0), doc...))
}

// fields are the elements of a document: name and string, bool, int32 or float64.
func fields(pairs ...any) []byte {
	var b []byte
	for i := 0; i < len(pairs); i += 2 {
		name := pairs[i].(string)
		switch v := pairs[i+1].(type) {
		case bool:
			b = append(append(append(b, 0x08), name...), 0, 0)
			if v {
				b[len(b)-1] = 1
			}
		case float64:
			b = append(append(append(b, 0x01), name...), 0)
			b = append(b, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f)[:len(b)+8] // 1.0
			if v != 1 {
				clear(b[len(b)-8:])
			}
		default:
			b = appendElement(b, name, v)
		}
	}
	return b
}

func TestMongo(t *testing.T) {
	member := func(more ...any) []byte {
		return document(fields(append([]any{"setName", "rs0", "primary", "a:27017", "ok", 1.0}, more...)...))
	}
	for _, c := range []struct {
		name, answer, options string
		state                 health.State
		words                 string
	}{
		{"standalone", helloReply(document(fields("isWritablePrimary", true, "ok", 1.0))), "", health.Pass, "standalone"},
		{"primary", helloReply(member("isWritablePrimary", true)), "role=primary&set=rs0", health.Pass, "primary of rs0"},
		{"primary, and should be secondary", helloReply(member("isWritablePrimary", true)), "role=secondary", health.Fail, "should be secondary"},
		{"secondary", helloReply(member("isWritablePrimary", false, "secondary", true)), "role=secondary", health.Pass, "secondary of rs0"},
		{"secondary, and should be primary", helloReply(member("secondary", true)), "role=primary", health.Fail, "should be primary"},
		{"arbiter", helloReply(member("arbiterOnly", true)), "", health.Pass, "arbiter"},
		{"mongos", helloReply(document(fields("msg", "isdbgrid", "isWritablePrimary", true, "ok", int32(1)))), "", health.Pass, "mongos"},
		{"recovering", helloReply(member("isWritablePrimary", false, "secondary", false)), "", health.Fail, "recovering"},
		{"not initiated", helloReply(document(fields("isreplicaset", true, "ok", 1.0))), "", health.Fail, "not initiated"},
		{"set without a primary", helloReply(document(fields("setName", "rs0", "secondary", true, "ok", 1.0))), "", health.Warn, "no primary"},
		{"another set", helloReply(member("isWritablePrimary", true)), "set=rs1", health.Fail, `"rs0", not "rs1"`},
		{"refused", helloReply(document(fields("ok", 0.0, "errmsg", "no such command", "codeName", "Unauthorized"))), "", health.Fail, "Unauthorized"},
		{"before 4.4.2", helloReply(document(fields("ok", 0.0, "code", int32(59)))) + helloReply(member("ismaster", true)), "role=primary", health.Pass, "primary of rs0"},
		{"no ok", helloReply(document(nil)), "", health.Fail, "hello"},
		{"another answer", strings.Replace(helloReply(member()), "\xdd\x07", "\x01\x00", 1), "", health.Fail, "not of its protocol"},
		{"a very long answer", "\xff\xff\xff\x7f" + helloReply(member())[4:], "", health.Fail, "not of its protocol"},
		{"too short", "\x15\x00\x00\x00" + helloReply(member())[4:], "", health.Fail, "not of its protocol"},
		{"a damaged document", helloReply(append(member()[:20:20], 0xee, 0xee, 0xee)), "", health.Fail, "damaged"},
		{"ends", helloReply(member())[:50], "", health.Fail, "EOF"},
		{"web server", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "", health.Fail, "not of its protocol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want(t, probe(t, "mongodb://"+listen(t, "tcp", says(c.answer))+"#"+c.options, Env{}), c.state, c.words)
		})
	}
	// Flags say that a checksum follows.
	sum := []byte(helloReply(append(document(fields("isWritablePrimary", true, "ok", 1.0)), 1, 2, 3, 4)))
	sum[16] = mongoChecksum
	if f, err := readHello(bytes.NewReader(sum)); err != nil || f["ok"] != 1.0 {
		t.Errorf("with a checksum: %v %v", f, err)
	}
	// The request, byte by byte, from the specification.
	wantRequest := "34000000" + "01000000" + "00000000" + "dd070000" + "00000000" + "00" +
		"1f000000" + "10" + "68656c6c6f00" + "01000000" + "02" + "24646200" + "06000000" + "61646d696e00" + "00"
	if got := hex.EncodeToString(helloRequest("hello")); got != wantRequest {
		t.Errorf("request %s, want %s", got, wantRequest)
	}
}

// A document of a real server, cut down: every type that hello has.
func TestBSON(t *testing.T) {
	doc := document(append(fields("ok", 1.0, "s", "ü", "i", int32(-2), "b", true),
		[]byte("\x03d\x00\x08\x00\x00\x00\x0ax\x00\x00"+ // {x: null}
			"\x04a\x00\x05\x00\x00\x00\x00"+ // []
			"\x05n\x00\x02\x00\x00\x00\x00ab"+ // binary
			"\x07o\x00aaaaaaaaaaaa"+ // object id
			"\x09t\x00\x01\x00\x00\x00\x00\x00\x00\x00"+ // date
			"\x0br\x00a\x00b\x00"+ // regular expression
			"\x11c\x00\x01\x00\x00\x00\x01\x00\x00\x00"+ // timestamp
			"\x12l\x00\xff\xff\xff\xff\xff\xff\xff\xff"+ // int64 -1
			"\x13m\x00aaaaaaaaaaaaaaaa"+ // decimal128
			"\xffk\x00")...)) // min key
	got, err := readDocument(doc)
	if err != nil || len(got) != 5 || got["ok"] != 1.0 || got["s"] != "ü" || got["i"] != -2.0 || got["b"] != true || got["l"] != -1.0 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := readDocument(document([]byte("\x02s\x00\x00\x00\x00\x00"))); err == nil {
		t.Errorf("a string of no bytes, not even its end, is read: %v", got)
	}
	for cut := range doc {
		if _, err := readDocument(doc[:cut]); err == nil {
			t.Errorf("a document of %d bytes, cut to %d, is read", len(doc), cut)
		}
		// The outer length is right, and what is inside is cut.
		short := document(doc[4 : 4+max(0, cut-4)])
		if _, err := readDocument(short); err != nil && !errors.Is(err, errBSON) {
			t.Errorf("%v", err)
		}
	}
}

func FuzzMongo(f *testing.F) {
	f.Add([]byte(helloReply(document(fields("setName", "rs0", "isWritablePrimary", true, "ok", 1.0)))))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readHello(bytes.NewReader(b))
		if err != nil && got != nil {
			t.Errorf("%v beside %v", got, err)
		}
		if _, err := readDocument(b); err != nil && !errors.Is(err, errBSON) {
			t.Errorf("%v", err)
		}
		c := mongo{role: "any", counters: new(Counters)}
		if r := c.judge(got); err == nil && (r.Text == "" || len(r.Text) > maxTextBytes) {
			t.Errorf("judged %v", r)
		}
	})
}

// pg is a message of PostgreSQL.
func pg(kind byte, content string) string {
	return string(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(content)+4))) + content
}

func pgError(code, message string) string {
	return pg('E', "SFATAL\x00VFATAL\x00C"+code+"\x00M"+message+"\x00\x00")
}

func TestPostgres(t *testing.T) {
	login := pg('R', "\x00\x00\x00\x00")
	ready := pg('K', "\x00\x00\x00\x01\x00\x00\x00\x02") + pg('Z', "I")
	for _, c := range []struct {
		name, answer, options string
		state                 health.State
		words                 string
	}{
		{"wants a password", pg('R', "\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"), "", health.Pass, "wants a password"},
		{"wants a password, and a role is wanted", pg('R', "\x00\x00\x00\x05salt"), "role=primary", health.Warn, "not known"},
		{"primary", login + pg('S', "in_hot_standby\x00off\x00") + ready, "role=primary", health.Pass, "primary"},
		{"standby", login + pg('S', "in_hot_standby\x00on\x00") + ready, "role=standby", health.Pass, "standby"},
		{"standby, and should be primary", login + pg('S', "in_hot_standby\x00on\x00") + ready, "role=primary", health.Fail, "standby, and should be primary"},
		{"before version 14", login + pg('S', "server_version\x0013.1\x00") + ready, "", health.Pass, "accepts sessions"},
		{"a notice first", pg('N', "Mhello\x00\x00") + login + ready, "", health.Pass, ""},
		{"starting", pgError("57P03", "the database system is starting up"), "", health.Starting, "57P03"},
		{"no such user", pgError("28000", `role "healthd" does not exist`), "", health.Pass, "not that of this user"},
		{"no such database", pgError("3D000", "none"), "", health.Pass, ""},
		{"too many connections", pgError("53300", "sorry, too many clients already"), "", health.Fail, "too many clients"},
		{"shutting down", pgError("57P01", "terminating connection"), "", health.Fail, ""},
		{"no reason", pg('E', "\x00"), "", health.Fail, "without a reason"},
		{"a damaged error", pg('E', "C28000"), "", health.Fail, "without a reason"},
		{"another server", "HTTP/1.1 400 Bad Request\r\n\r\n", "", health.Fail, "not of its protocol"},
		{"a very long message", "R\x7f\xff\xff\xff", "", health.Fail, "not of its protocol"},
		{"a short message", "R\x00\x00\x00\x03", "", health.Fail, "not of its protocol"},
		{"endless notices", strings.Repeat(pg('N', "\x00"), 101), "", health.Fail, "not of its protocol"},
		{"ready without a login", pg('Z', "I"), "", health.Fail, "not of its protocol"},
		{"closes", "", "", health.Fail, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want(t, probe(t, "postgresql://"+listen(t, "tcp", says(c.answer))+"#"+c.options, Env{}), c.state, c.words)
		})
	}
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 4096)
		n, _ := c.Read(buf)
		io.WriteString(c, login+ready)
		m, _ := io.ReadFull(c, buf[n:n+5])
		got <- string(buf[:n+m])
	}()
	want(t, probe(t, "postgresql://"+dir+"#user=u&database=d", Env{}), health.Pass)
	l.Close()
	wantSent := "\x00\x00\x00\x34\x00\x03\x00\x00user\x00u\x00database\x00d\x00application_name\x00healthd\x00\x00" + "X\x00\x00\x00\x04"
	if s := <-got; s != wantSent {
		t.Errorf("sent %q, want %q", s, wantSent)
	}
}

func FuzzPostgres(f *testing.F) {
	f.Add([]byte(pg('R', "\x00\x00\x00\x00") + pg('S', "in_hot_standby\x00on\x00") + pg('Z', "I")))
	f.Add([]byte(pgError("57P03", "x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := postgres{role: "any", counters: new(Counters)}
		r, err := c.session(&pipe{Reader: bytes.NewReader(b)})
		if (err == nil) != (r.Text != "") {
			t.Errorf("%v beside %v", r, err)
		}
	})
}

// pipe reads from one place and writes to nowhere, up to a limit.
type pipe struct {
	io.Reader
	written bytes.Buffer
}

func (p *pipe) Write(b []byte) (int, error) { return p.written.Write(b) }

// my is a packet of MySQL.
func my(sequence byte, content string) string {
	return string(appendPacket(nil, sequence, []byte(content)))
}

func TestMySQL(t *testing.T) {
	greeting := my(0, "\x0a8.0.36\x00"+strings.Repeat("x", 60))
	for _, c := range []struct {
		name   string
		answer []string // one for each packet that is read
		state  health.State
		words  string
	}{
		{"logged in", []string{greeting, my(2, "\x00\x00\x00\x02\x00\x00\x00")}, health.Pass, "version 8.0.36"},
		{"MariaDB", []string{my(0, "\x0a5.5.5-10.11.19-MariaDB\x00rest"), my(2, "\x00")}, health.Pass, "version 10.11.19-MariaDB"},
		{"access denied", []string{greeting, my(2, "\xff\x15\x04#28000Access denied for user")}, health.Pass, "not that of this user"},
		{"another plugin", []string{greeting, my(2, "\xfecaching_sha2_password\x00salt"), my(4, "\x00\x00\x00\x02\x00\x00\x00")}, health.Pass, "8.0.36"},
		{"another plugin, denied", []string{greeting, my(2, "\xfeunix_socket\x00"), my(4, "\xff\xa2\x06#28000Access denied")}, health.Pass, "not that of this user"},
		{"fast authentication", []string{greeting, my(2, "\x01\x03") + my(3, "\x00\x00\x00\x02\x00\x00\x00")}, health.Pass, "8.0.36"},
		{"too many connections", []string{my(0, "\xff\x10\x04#08004Too many connections")}, health.Fail, "Too many connections (1040)"},
		{"too many connections, without a state", []string{my(0, "\xff\x10\x04Too many connections")}, health.Fail, "Too many connections"},
		{"host is blocked", []string{my(0, "\xff\x69\x04Host 'x' is blocked because of many connection errors")}, health.Fail, "blocked"},
		{"host is not allowed", []string{my(0, "\xff\x6a\x04Host 'x' is not allowed")}, health.Warn, "not allowed"},
		{"shutting down", []string{greeting, my(2, "\xff\x1d\x04#08S01Server shutdown in progress")}, health.Warn, "shutdown"},
		{"no reason", []string{my(0, "\xff")}, health.Fail, "without a reason"},
		{"never ends", []string{greeting, my(2, "\xfea\x00"), my(4, "\xfea\x00"), my(6, "\xfea\x00"), my(8, "\xfea\x00")}, health.Fail, "not of its protocol"},
		{"another version", []string{my(0, "\x098.0\x00")}, health.Fail, "not of its protocol"},
		{"no version", []string{my(0, "\x0a8.0")}, health.Fail, "not of its protocol"},
		{"empty packet", []string{"\x00\x00\x00\x00"}, health.Fail, "not of its protocol"},
		{"a very long packet", []string{"\xff\xff\xff\x00"}, health.Fail, "not of its protocol"},
		{"a web server", []string{"HTTP/1.1 400 Bad Request\r\n\r\n"}, health.Fail, "not of its protocol"},
		{"closes", nil, health.Fail, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := func(conn net.Conn) {
				for i, a := range c.answer {
					if i > 0 {
						conn.Read(make([]byte, 4096))
					}
					io.WriteString(conn, a)
				}
				if len(c.answer) > 0 {
					conn.(*net.TCPConn).CloseWrite()
					io.Copy(io.Discard, conn)
				}
			}
			want(t, probe(t, "mysql://"+listen(t, "tcp", server), Env{}), c.state, c.words)
		})
	}
	for _, text := range []string{"#08004Too many connections", "Too many connections"} {
		m := mysql{user: "u", counters: new(Counters)}
		if r := m.refused([]byte("\xff\x10\x04"+text), "8"); r.Text != "Too many connections (1040)" {
			t.Errorf("%q is told as %q", text, r.Text)
		}
	}
	quick := &pipe{Reader: strings.NewReader(greeting + my(2, "\x01\x03") + my(3, "\x00"))}
	if r, err := (&mysql{user: "u", counters: new(Counters)}).session(quick); err != nil || strings.HasSuffix(quick.written.String(), "\x00\x00\x00\x03"+"\x01\x00\x00\x00\x01") {
		t.Errorf("%v %v: an answer to what is no question: %q", r, err, quick.written.String())
	}
	// What is sent: the login with the next number, an empty password, the end.
	p := &pipe{Reader: strings.NewReader(greeting + my(2, "\xfecaching_sha2_password\x00salt") + my(4, "\x00\x00\x00"))}
	m := mysql{user: "u", counters: new(Counters)}
	if r, err := m.session(p); err != nil || r.State != health.Pass {
		t.Fatal(r, err)
	}
	login := "\x01\x82\x08\x00" + "\x00\x40\x00\x00" + "\x2d" + strings.Repeat("\x00", 23) + "u\x00" + "\x00" + "mysql_native_password\x00"
	if sent := p.written.String(); sent != my(1, login)+"\x00\x00\x00\x03"+"\x01\x00\x00\x00\x01" {
		t.Errorf("sent %q", sent)
	}
}

func FuzzMySQL(f *testing.F) {
	f.Add([]byte(my(0, "\x0a8.0.36\x00") + my(2, "\xff\x15\x04#28000Access denied")))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := mysql{user: "u", counters: new(Counters)}
		r, err := c.session(&pipe{Reader: bytes.NewReader(b)})
		if (err == nil) != (r.Text != "") {
			t.Errorf("%v beside %v", r, err)
		}
	})
}

// dnsServer answers datagrams with what f makes of the question; several if it
// returns several.
func dnsServer(t *testing.T, f func(dnsmessage.Message) []dnsmessage.Message) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, peer, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			var q dnsmessage.Message
			if err := q.Unpack(buf[:n]); err != nil {
				t.Errorf("question: %v", err)
				return
			}
			for _, m := range f(q) {
				b, err := m.Pack()
				if err != nil {
					t.Errorf("answer: %v", err)
				}
				c.WriteTo(b, peer)
			}
		}
	}()
	t.Cleanup(func() { c.Close(); <-ended })
	return c.LocalAddr().String()
}

func TestDNS(t *testing.T) {
	reply := func(q dnsmessage.Message, code dnsmessage.RCode, ips ...[4]byte) dnsmessage.Message {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RCode: code}, Questions: q.Questions}
		head := dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 1}
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("b.example.")}})
		for _, ip := range ips {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: ip}})
		}
		return m
	}
	one := func(f func(q dnsmessage.Message) dnsmessage.Message) func(dnsmessage.Message) []dnsmessage.Message {
		return func(q dnsmessage.Message) []dnsmessage.Message { return []dnsmessage.Message{f(q)} }
	}
	for _, c := range []struct {
		name, options string
		server        func(dnsmessage.Message) []dnsmessage.Message
		state         health.State
		words         string
	}{
		{"answers", "", one(func(q dnsmessage.Message) dnsmessage.Message { return reply(q, 0, [4]byte{192, 0, 2, 1}) }), health.Pass, ""},
		{"with what is expected", "expect=192.0.2.1", one(func(q dnsmessage.Message) dnsmessage.Message {
			return reply(q, 0, [4]byte{192, 0, 2, 2}, [4]byte{192, 0, 2, 1})
		}), health.Pass, ""},
		{"without what is expected", "expect=192.0.2.1,192.0.2.9", one(func(q dnsmessage.Message) dnsmessage.Message { return reply(q, 0, [4]byte{192, 0, 2, 1}) }), health.Fail, "192.0.2.9"},
		{"no such name", "", one(func(q dnsmessage.Message) dnsmessage.Message { return reply(q, dnsmessage.RCodeNameError) }), health.Fail, "NameError"},
		{"failure", "", one(func(q dnsmessage.Message) dnsmessage.Message { return reply(q, dnsmessage.RCodeServerFailure) }), health.Fail, "ServerFailure"},
		{"no record", "", one(func(q dnsmessage.Message) dnsmessage.Message { return reply(q, 0) }), health.Fail, "no such record"},
		{"truncated", "", one(func(q dnsmessage.Message) dnsmessage.Message { m := reply(q, 0); m.Truncated = true; return m }), health.Pass, "more than fits"},
		{"another's answers first", "", func(q dnsmessage.Message) []dnsmessage.Message {
			late, other, echo := reply(q, dnsmessage.RCodeRefused), reply(q, dnsmessage.RCodeRefused), q
			late.ID++
			other.Questions = []dnsmessage.Question{{Name: dnsmessage.MustNewName("other.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}
			return []dnsmessage.Message{late, other, echo, reply(q, 0, [4]byte{192, 0, 2, 1})}
		}, health.Pass, ""},
		{"another case", "", one(func(q dnsmessage.Message) dnsmessage.Message {
			q.Questions[0].Name = dnsmessage.MustNewName("example.COM.")
			return reply(q, 0, [4]byte{192, 0, 2, 1})
		}), health.Pass, ""},
		{"silence", "timeout=100ms", func(dnsmessage.Message) []dnsmessage.Message { return nil }, health.Fail, "no answer in time"},
		{"another type", "type=AAAA", one(func(q dnsmessage.Message) dnsmessage.Message { return reply(q, 0, [4]byte{192, 0, 2, 1}) }), health.Fail, "no such record"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want(t, probe(t, "dns://"+dnsServer(t, c.server)+"/Example.com#"+c.options, Env{}), c.state, c.words)
		})
	}
	want(t, probe(t, "dns:localhost#expect=127.0.0.1", Env{}), health.Pass)
}

func FuzzDNS(f *testing.F) {
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 1, Response: true}, Answers: []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("example.com."), Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: [4]byte{1, 2, 3, 4}}}}}
	b, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c := dns{name: dnsmessage.MustNewName("example.com."), kind: dnsmessage.TypeA, counters: new(Counters)}
		if r, mine := c.answer(b, 1); mine != (r.Text != "") {
			t.Errorf("%v, %t", r, mine)
		}
	})
}

// shipperPage is a page of logship's metrics.
func shipperPage(lag, sent, confirmed, lastConfirm, lost float64) string {
	return fmt.Sprintf(`# HELP logship_lag_seconds How far reading is behind, in seconds.
# TYPE logship_lag_seconds gauge
logship_lag_seconds{source="journal"} %v
logship_lag_seconds{source="stdin"} 0
logship_lag_entries{source="journal"} 12
logship_messages_sent_total{source="journal",unit="a} b.service"} %v
logship_messages_confirmed_total{source="journal",unit="a} b.service"} %v
logship_output_last_confirm_timestamp_seconds %v
logship_gap_entries_total{reason="missing_entries"} %v
go_goroutines 12
`, lag, sent, confirmed, lastConfirm, lost)
}

func TestLogship(t *testing.T) {
	clock := at("2026-11-20T12:00:00Z")()
	now := float64(clock.Unix())
	for _, c := range []struct {
		name, page, ready, options string
		state                      health.State
		words                      string
	}{
		{"well", shipperPage(0.5, 10, 10, now-3600, 0), "", "", health.Pass, "ships"},
		{"behind", shipperPage(61, 10, 10, now, 0), "", "", health.Warn, "more than 1m behind"},
		{"at the limit", shipperPage(60, 10, 10, now, 0), "", "", health.Pass, ""},
		{"far behind", shipperPage(3601, 10, 10, now, 0), "", "fail=1h", health.Fail, "more than 1h behind"},
		{"nothing confirmed", shipperPage(0, 11, 10, now-61, 0), "", "", health.Warn, "behind"},
		{"not ready", shipperPage(0, 10, 10, now, 0), "no connection to the receiver", "", health.Warn, "no connection"},
		{"disk full", shipperPage(0, 10, 10, now, 0) + "logship_spool_trouble 1\nlogship_spool_bytes 1e9\n", "", "", health.Fail, "cannot be stored"},
		{"journald comes near", shipperPage(0, 10, 10, now, 0) + "logship_journal_headroom_seconds 599\n", "", "", health.Fail, "remove"},
		{"journald is far", shipperPage(0, 10, 10, now, 0) + "logship_journal_headroom_seconds 600\n", "", "", health.Pass, ""},
		{"both", shipperPage(61, 10, 10, now, 0) + "logship_spool_trouble 1\n", "down", "", health.Fail, "cannot be stored; more than 1m behind; not ready: down"},
		{"another program", "go_goroutines 12\n", "", "", health.Fail, "not logship"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := func(conn net.Conn) {
				buf := make([]byte, 4096)
				n, _ := conn.Read(buf)
				switch {
				case strings.HasPrefix(string(buf[:n]), "GET /metrics "):
					io.WriteString(conn, httpAnswer("200 OK", "text/plain", c.page))
				case c.ready != "":
					io.WriteString(conn, httpAnswer("503 X", "text/plain", c.ready+"\n"))
				default:
					io.WriteString(conn, httpAnswer("200 OK", "text/plain", "ok\n"))
				}
			}
			env := Env{Now: func() time.Time { return clock }}
			want(t, probe(t, "logship://"+listen(t, "tcp", server)+"#"+c.options, env), c.state, c.words)
			r := probe(t, "logship://"+listen(t, "unix", server)+"#"+c.options, env)
			want(t, r, c.state, c.words)
		})
	}
	want(t, probe(t, "logship://"+listen(t, "tcp", says(httpAnswer("404 X", "", ""))), Env{}), health.Fail, "status 404")
}

// TestLogshipLoses: a loss is seen in one run and shown for ten minutes.
func TestLogshipLoses(t *testing.T) {
	clock := at("2026-11-20T12:00:00Z")()
	c := logship{warnLag: time.Minute, headroom: time.Minute, now: func() time.Time { return clock }, counters: new(Counters), lost: -1}
	judge := func(lost float64) health.Result {
		return c.judge(readShipper([]byte(shipperPage(0, 1, 1, 0, lost))), "")
	}
	want(t, judge(100), health.Pass) // of before this healthd started
	want(t, judge(100), health.Pass)
	want(t, judge(101), health.Warn, "lost")
	clock = clock.Add(lossShown - 1)
	want(t, judge(101), health.Warn, "lost")
	clock = clock.Add(1)
	want(t, judge(101), health.Pass)
	want(t, judge(3), health.Pass) // logship was started anew
	r := judge(4)
	want(t, r, health.Warn, "lost")
	if value(t, r, "lost_total") != 4 || value(t, r, "lag_entries") != 12 {
		t.Errorf("values %v", r.Values)
	}
}

func FuzzLogship(f *testing.F) {
	f.Add([]byte(shipperPage(1, 2, 3, 4, 5)))
	f.Add([]byte("logship_lag_seconds{a=\"}\"} NaN\nlogship_lag_seconds{\nlogship_ 1\nlogship_lag_seconds +Inf"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := readShipper(b)
		if s.lag != s.lag || s.lag < 0 {
			t.Errorf("lag %v", s.lag)
		}
		c := logship{now: time.Now, counters: new(Counters), lost: -1}
		if r := c.judge(s, ""); r.Text == "" || len(r.Text) > maxTextBytes {
			t.Errorf("judged %v", r)
		}
	})
}

// TestCausesAreStable: no text has a port or an address in it that changes.
func TestCausesAreStable(t *testing.T) {
	reset := func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }
	r := probe(t, "redis://"+listen(t, "tcp", reset), Env{})
	want(t, r, health.Fail)
	if strings.Contains(r.Text, "127.0.0.1") {
		t.Errorf("text %q", r.Text)
	}
	if s := cause(fmt.Errorf("x: %w", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errors.New("odd"))})); s != "odd" {
		t.Errorf("cause %q", s)
	}
	if s := cutText("a\nb\x00ü\xff"+strings.Repeat("ü", 200), 20); len(s) > 20 || !strings.HasPrefix(s, "a b ü?ü") || !strings.HasSuffix(s, "ü…") {
		t.Errorf("cut to %q", s)
	}
}
