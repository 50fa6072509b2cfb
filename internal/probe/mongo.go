package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"sidecar/internal/health"
)

// The wire protocol of MongoDB ("MongoDB Wire Protocol", OP_MSG): a header of four
// int32 (length, request, in reply to, opcode), flags, then sections, of which one
// has kind 0 and is the document. hello needs no login.
const (
	opMsg           = 2013
	mongoHeadBytes  = 16
	mongoMaxBytes   = 64 << 10
	mongoRequest    = 1
	mongoChecksum   = 1 << 0 // flag: four bytes of CRC-32C at the end
	mongoSectionDoc = 0
	mongoNotFound   = 59.0 // code: CommandNotFound
)

// mongo checks hello and the state in the replica set.
type mongo struct {
	at       endpoint
	role     string // "any", "primary" or "secondary"
	set      string // "": any
	counters *Counters
}

// mongoCheck is the check of MongoDB: it answers hello, and what it is in its replica
// set can serve. Options: role (any, primary, secondary), set (the name that the
// replica set must have), socket.
func mongoCheck(t *target) (Func, error) {
	at, err := t.endpoint("27017")
	c := &mongo{at: at, counters: t.env.Counters, set: t.opt.text("set", "")}
	c.role = t.opt.oneOf("role", "any", "any", "primary", "secondary")
	return c.run, err
}

func (c *mongo) run(ctx context.Context) health.Result {
	w, err := c.at.dial(ctx)
	if err != nil {
		return failed("connect", err)
	}
	defer w.Close()
	fields, err := hello(w, "hello")
	if fields["codeName"] == "CommandNotFound" || fields["code"] == mongoNotFound {
		fields, err = hello(w, "isMaster") // its name before MongoDB 4.4.2
	}
	if err != nil {
		if errors.Is(err, errBSON) || errors.Is(err, errMalformed) {
			c.counters.Malformed.Add(1)
		}
		return failed("hello", err)
	}
	return c.judge(fields)
}

// hello asks what the server is, by a command of that name, and returns the fields of
// the answer.
func hello(w io.ReadWriter, command string) (map[string]any, error) {
	if _, err := w.Write(helloRequest(command)); err != nil {
		return nil, err
	}
	return readHello(w)
}

func helloRequest(command string) []byte {
	doc := document(appendElement(appendElement(nil, command, int32(1)), "$db", "admin"))
	msg := binary.LittleEndian.AppendUint32(nil, uint32(mongoHeadBytes+4+1+len(doc)))
	for _, v := range []uint32{mongoRequest, 0, opMsg, 0} {
		msg = binary.LittleEndian.AppendUint32(msg, v)
	}
	return append(append(msg, mongoSectionDoc), doc...)
}

// readHello reads one OP_MSG and returns the fields of its document.
func readHello(r io.Reader) (map[string]any, error) {
	var head [mongoHeadBytes + 5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[0:])
	answers, code := binary.LittleEndian.Uint32(head[8:]), binary.LittleEndian.Uint32(head[12:])
	flags, section := binary.LittleEndian.Uint32(head[16:]), head[20]
	if code != opMsg || answers != mongoRequest || section != mongoSectionDoc || n > mongoMaxBytes || n < uint32(len(head))+5 {
		return nil, errMalformed
	}
	body := make([]byte, n-uint32(len(head)))
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	if flags&mongoChecksum != 0 {
		if len(body) < 9 {
			return nil, errMalformed
		}
		body = body[:len(body)-4]
	}
	return readDocument(body)
}

// judge tells a result of the fields of hello ("hello (database command)").
func (c *mongo) judge(f map[string]any) health.Result {
	is := func(name string) bool { b, _ := f[name].(bool); return b }
	text := func(name string) string { s, _ := f[name].(string); return cutText(s, 64) }
	if ok, isNumber := f["ok"].(float64); !isNumber || ok != 1 {
		return fail("hello: %s", cutText(text("errmsg")+" "+text("codeName"), 100))
	}
	set, writable := text("setName"), is("isWritablePrimary") || is("ismaster")
	if c.set != "" && set != c.set {
		return fail("the replica set is %q, not %q", set, cutText(c.set, 64))
	}
	var r health.Result
	role := "primary"
	switch {
	case text("msg") == "isdbgrid":
		return pass("mongos")
	case set == "" && is("isreplicaset"):
		return fail("it is meant for a replica set that is not initiated")
	case set == "" && writable:
		r = pass("standalone")
	case writable:
		r = pass("primary of %s", set)
	case is("arbiterOnly"):
		r, role = pass("arbiter of %s", set), "arbiter"
	case is("secondary"):
		r, role = pass("secondary of %s", set), "secondary"
	default:
		// STARTUP, STARTUP2, RECOVERING, ROLLBACK, REMOVED: it serves nothing.
		return fail("neither primary nor secondary of %q: it is starting, recovering or removed", set)
	}
	if c.role != "any" && role != c.role {
		return fail("%s, and should be %s", r.Text, c.role)
	}
	if set != "" && text("primary") == "" {
		return warn("%s, and the set has no primary", r.Text)
	}
	return r
}
