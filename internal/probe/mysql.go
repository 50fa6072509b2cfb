package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"

	"sidecar/internal/health"
)

// mysql checks that sessions are accepted, as mysqladmin(1) ping does: an access that
// is denied is the answer of a server that works.
type mysql struct {
	at       endpoint
	user     string
	counters *Counters
}

// mysqlCheck is the check of MySQL and MariaDB. Options: user (healthd), socket.
//
// The login is always done to its end, with an empty password: a server blocks a
// client's address after some handshakes that end in the middle (max_connect_errors).
// A user that exists, without any privilege, keeps denied logins out of the log.
func mysqlCheck(t *target) (Func, error) {
	at, err := t.endpoint("3306")
	c := &mysql{at: at, user: t.opt.text("user", "healthd"), counters: t.env.Counters}
	if c.user == "" || len(c.user) > 80 || bytes.IndexByte([]byte(c.user), 0) >= 0 {
		t.opt.bad("user", errors.New("want a name"))
	}
	return c.run, err
}

// Capabilities of the client (MySQL, "Capabilities Flags"): long password, protocol
// 4.1, secure connection, authentication plugins.
const mysqlCapabilities = 0x00000001 | 0x00000200 | 0x00008000 | 0x00080000

// readPacket reads a packet: three bytes of length, a sequence number, content.
func readPacket(r io.Reader) (sequence byte, content []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	if n == 0 || n > maxMessageBytes {
		return 0, nil, errMalformed
	}
	content = make([]byte, n)
	_, err = io.ReadFull(r, content)
	return head[3], content, err
}

// appendPacket appends a packet with that content.
func appendPacket(dst []byte, sequence byte, content []byte) []byte {
	n := len(content)
	return append(append(dst, byte(n), byte(n>>8), byte(n>>16), sequence), content...)
}

func (c *mysql) run(ctx context.Context) health.Result {
	w, err := c.at.dial(ctx)
	if err != nil {
		return failed("connect", err)
	}
	defer w.Close()
	r, err := c.session(w)
	if err != nil {
		if errors.Is(err, errMalformed) {
			c.counters.Malformed.Add(1)
		}
		return failed("start a session", err)
	}
	return r
}

// session reads the greeting and logs in.
func (c *mysql) session(w io.ReadWriter) (health.Result, error) {
	sequence, greeting, err := readPacket(w)
	if err != nil {
		return health.Result{}, err
	}
	if greeting[0] == 0xff {
		return c.refused(greeting, ""), nil
	}
	version, _, ok := cutName(greeting[1:])
	if greeting[0] != 10 || !ok {
		return health.Result{}, errMalformed
	}
	// MariaDB says so to replicas of MySQL that know versions up to 9 only.
	version = strings.TrimPrefix(version, "5.5.5-")
	login := binary.LittleEndian.AppendUint32(nil, mysqlCapabilities)
	login = binary.LittleEndian.AppendUint32(login, maxMessageBytes)
	login = append(append(login, 45), make([]byte, 23)...) // utf8mb4, filler
	login = append(append(login, c.user...), 0, 0)         // an answer of no bytes: no password
	login = append(append(login, "mysql_native_password"...), 0)
	if _, err := w.Write(appendPacket(nil, sequence+1, login)); err != nil {
		return health.Result{}, err
	}
	for range 4 { // a change of the plugin, more data, the verdict
		sequence, answer, err := readPacket(w)
		if err != nil {
			return health.Result{}, err
		}
		switch answer[0] {
		case 0x00: // OK
			_, err := w.Write(appendPacket(nil, 0, []byte{0x01})) // COM_QUIT
			return pass("accepts sessions, version %s", cutText(version, 40)), err
		case 0xff:
			return c.refused(answer, version), nil
		case 0xfe, 0x01: // another plugin, whose answer to no password is also empty; more data
			if answer[0] == 0x01 && len(answer) > 1 && answer[1] == 0x03 { // caching_sha2_password: fine so far
				continue
			}
			if _, err := w.Write([]byte{0, 0, 0, sequence + 1}); err != nil {
				return health.Result{}, err
			}
		default:
			return health.Result{}, errMalformed
		}
	}
	return health.Result{}, errMalformed
}

// refused judges an ERR packet by its number (MySQL, "Server Error Message
// Reference").
func (c *mysql) refused(packet []byte, version string) health.Result {
	if len(packet) < 3 {
		c.counters.Malformed.Add(1)
		return fail("refuses sessions without a reason")
	}
	text := packet[3:]
	if len(text) > 6 && text[0] == '#' { // SQL state
		text = text[6:]
	}
	message := cutText(string(text), 120)
	switch code := binary.LittleEndian.Uint16(packet[1:]); code {
	case 1045, 1698, 1044, 1130, 1251, 3118, 4151: // no access for this user, plugin or host, account locked
		if version == "" { // not even a greeting: this host is not welcome, others may be
			return warn("accepts connections, not those of this host: %s (%d)", message, code)
		}
		return pass("accepts sessions, not that of this user, version %s", cutText(version, 40))
	case 1053: // shutdown in progress
		return warn("%s (%d)", message, code)
	default: // 1040 too many connections, 1129 host is blocked, …
		return fail("%s (%d)", message, code)
	}
}
