package redact

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"sidecar/internal/record"
)

// maxName is the length of a name in bytes; of longer ones the end counts.
const maxName = 64

// kind says what the value of a name is.
type kind uint8

const (
	ordinary      kind = iota
	secret             // redacted as a whole
	weak               // secret, but the name is an ordinary word too
	authorization      // Authorization header: the scheme stays
	cookies            // Cookie and Set-Cookie headers
	session            // the identifier of a session
	parameter          // secret as name=value in a text only
	auth               // user:password
	card               // number of a payment card
	code               // of a payment card
	account            // IBAN
	directory          // PWD: a password, or the shell's working directory
	number             // of a payment card, if it is one (in a text only)
)

// rule returns the rule that a kind belongs to.
func (k kind) rule() rule {
	switch k {
	case authorization:
		return ruleAuthorization
	case cookies:
		return ruleCookie
	case session:
		return ruleSession
	case card, code, account, number:
		return ruleCard
	}
	return ruleKey
}

// ofField reports whether the kind counts for the name of a field.
func (k kind) ofField() bool { return k != parameter && k != number }

// longest bounds a value whose form is checked.
func (k kind) longest() int {
	switch k {
	case card, account, number, auth:
		return 256
	}
	return unbounded
}

// unbounded is longer than any text.
const unbounded = 1 << 40

// holds reports whether text has the form of the kind's values.
func (k kind) holds(text []byte) bool {
	switch k {
	case card:
		n, _ := digits(text)
		return n >= 12
	case number:
		n, valid := digits(text)
		return n >= 13 && n <= 19 && valid && text[0] >= '2' && text[0] <= '6'
	case account:
		return isIBAN(text)
	case auth:
		return bytes.IndexByte(text, ':') > 0 && bytes.IndexByte(text, ' ') < 0 && !bytes.HasPrefix(text, []byte(Mask))
	}
	return true
}

// digits returns how many digits text has, and whether their check digit is right
// (ISO/IEC 7812-1 annex B, "Luhn"); 0 if it has anything but digits, blanks and
// dashes.
func digits(text []byte) (n int, valid bool) {
	sum := 0
	for i := len(text) - 1; i >= 0; i-- {
		c := text[i]
		if c == ' ' || c == '-' {
			continue
		}
		if c < '0' || c > '9' {
			return 0, false
		}
		d := int(c - '0')
		if n++; n%2 == 0 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return n, sum%10 == 0
}

// isIBAN reports whether text has the form of an account number of ISO 13616:
// country, two check digits, 11 to 30 letters and digits. The check digits need
// not be right: under the name of an account a mistyped one is as private.
func isIBAN(text []byte) bool {
	n := 0
	for _, c := range text {
		letter, digit := c|0x20 >= 'a' && c|0x20 <= 'z', c >= '0' && c <= '9'
		switch {
		case c == ' ' || c == '-':
			continue
		case n < 2 && !letter, n >= 2 && n < 4 && !digit, !letter && !digit:
			return false
		}
		n++
	}
	return n >= 15 && n <= 34
}

// keys decides what a name means, and remembers it.
type keys struct {
	phrases [256][]phrase   // by their last byte; immutable after newKeys
	keep    map[string]bool // immutable after newKeys
	last    [256]bool       // bytes that the name of a secret can end with
	cache   [cacheSize][2]cached
}

const cacheSize = 256 // a power of two

type cached struct {
	kind kind
	len  uint8 // 0: free
	name [maxName]byte
}

// phrase is the end of a name: its words without what is between them.
type phrase struct {
	text string
	kind kind
	fits fit
}

// fit says where in a name a phrase counts.
type fit uint8

const (
	lastWords fit = iota
	glued         // at the end of a word too, as in PGPASSWORD
	whole         // if it is the name
)

// phrases are the ends of the names that are secret, and those of names that only
// look so; the first that matches counts.
func phrases() []phrase {
	var list []phrase
	add := func(k kind, f fit, words string) {
		for _, w := range strings.Fields(words) {
			list = append(list, phrase{w, k, f})
		}
	}
	// What a page or a request is found again with, and public keys.
	add(ordinary, glued, "pagetoken nexttoken continuationtoken canceltoken synctoken forgotpassword resetpassword changepassword publickey")
	add(authorization, lastWords, "authorization authorisation")
	add(cookies, lastWords, "cookie")
	add(session, glued, "sessionid sessid sessiontoken sessionkey")
	add(session, lastWords, "connectsid sessionsid cookiesid cookiessid")
	add(secret, glued, "password passwd passphrase passcode passwort secret token apikey privatekey secretkey accesskey accesskeyid authkey encryptionkey signingkey")
	add(directory, whole, "pwd oldpwd")
	add(directory, lastWords, "envpwd envoldpwd")
	add(secret, lastWords, "pwd secretid jwt bearer masterkey sharedkey sshkey hmackey accountkey subscriptionkey appkey mfacode otpcode totpcode verificationcode pincode passwordhash")
	add(weak, lastWords, "pass pin otp totp")
	add(secret, lastWords, "dbpass pgpass mysqlpass smtppass userpass")
	add(card, glued, "cardnumber cardnum")
	add(card, lastWords, "pan cardno ccnumber ccnum creditcard")
	add(code, lastWords, "cvv cvc cvv2 cvc2 cvvcode cvccode cardcode securitycode")
	add(account, lastWords, "iban")
	add(number, whole, "number")
	add(auth, lastWords, "auth")
	add(parameter, lastWords, "sid sig signature amzsignature amzcredential")
	return list
}

// newKeys returns the built-in names with further ones that are secret, and those
// that are not, and what is wrong with these.
func newKeys(own, keep []string) (k *keys, wrong []error) {
	k = &keys{keep: map[string]bool{}}
	for _, name := range own {
		var w words
		w.split([]byte(name))
		if len(name) > maxName || w.n == 0 {
			wrong = append(wrong, &Error{"redact.keys", fmt.Errorf("add key %.64q: want 1 to %d bytes with a letter or a digit", name, maxName)})
			continue
		}
		k.add(phrase{string(w.text[:w.n]), secret, lastWords})
	}
	for _, name := range keep {
		if name == "" || len(name) > maxName {
			wrong = append(wrong, &Error{"redact.keep", fmt.Errorf("keep key %.64q: want 1 to %d bytes", name, maxName)})
			continue
		}
		k.keep[name] = true
	}
	for _, p := range phrases() {
		k.add(p)
	}
	for _, s := range neutral() {
		k.ends(s)
	}
	for c := '0'; c <= '9'; c++ {
		k.last[c] = true
	}
	return k, wrong
}

// add adds a phrase; earlier ones count first.
func (k *keys) add(p phrase) {
	k.ends(p.text)
	last := p.text[len(p.text)-1]
	k.phrases[last] = append(k.phrases[last], p)
}

// ends notes the byte that a name ends with.
func (k *keys) ends(s string) {
	c := s[len(s)-1]
	k.last[c] = true
	k.last[strings.ToUpper(string(c))[0]] = true
}

// kind returns what a name means.
func (k *keys) kind(name []byte) kind {
	if len(name) > maxName {
		name = name[len(name)-maxName:]
	}
	if len(name) == 0 {
		return ordinary
	}
	set := &k.cache[hash(name)&(cacheSize-1)]
	for i := range set {
		if c := &set[i]; int(c.len) == len(name) && string(c.name[:c.len]) == string(name) {
			return c.kind
		}
	}
	set[1] = set[0]
	c := &set[0]
	c.kind = k.decide(name)
	c.len = uint8(copy(c.name[:], name))
	return c.kind
}

// hash returns a number made of the ends and the length of a name.
func hash(name []byte) uint32 {
	n := len(name)
	h := uint64(n)
	switch {
	case n >= 8:
		h += binary.LittleEndian.Uint64(name) ^ binary.LittleEndian.Uint64(name[n-8:])*3
	case n >= 4:
		h += uint64(binary.LittleEndian.Uint32(name))<<32 | uint64(binary.LittleEndian.Uint32(name[n-4:]))
	default:
		h += uint64(name[0])<<16 | uint64(name[n-1])<<8
	}
	return uint32(h * 0x9E3779B97F4A7C15 >> 40)
}

// decide is kind without the memory.
func (k *keys) decide(name []byte) kind {
	if k.keep[string(name)] {
		return ordinary
	}
	var w words
	w.split(name)
	if found := k.match(&w, w.n); found != ordinary {
		return found
	}
	n := w.trim(w.n)
	if found := k.match(&w, n); n < w.n && found.ofField() && found != auth && found != weak && found != directory {
		return found
	}
	// {"password":{"hunter":"x"}}: what is under a secret name is secret, unless
	// it is a word about it.
	for i := w.n - 1; i > 0; i-- {
		if w.begins[i] == segment && k.match(&w, i) == secret && !w.describes(i) {
			return secret
		}
	}
	return ordinary
}

// match returns the kind of the first n bytes of the words.
func (k *keys) match(w *words, n int) kind {
	if n == 0 {
		return ordinary
	}
	text := w.text[:n]
	list := k.phrases[text[n-1]]
	for i := range list {
		p := &list[i]
		at := n - len(p.text)
		if at < 0 || string(text[at:]) != p.text {
			continue
		}
		if p.fits == glued || at == 0 || p.fits == lastWords && w.begins[at] != 0 {
			return p.kind
		}
	}
	return ordinary
}

// cookie returns what the name of a cookie means that is not a secret's by its
// words.
func (k *keys) cookie(name []byte) kind {
	var w words
	w.split(name[max(len(name)-maxName, 0):])
	text := w.text[:w.n]
	for _, part := range []string{"sess", "sid", "auth", "token", "jwt", "csrf", "xsrf", "remember", "secret", "login"} {
		if bytes.Contains(text, []byte(part)) {
			return session
		}
	}
	return ordinary
}

// words is a name in lower case, without what stands between its words.
type words struct {
	text   [maxName]byte
	begins [maxName + 1]boundary // what of the name begins at a byte of text
	n      int
}

type boundary uint8

const (
	hump    boundary = iota + 1 // a word, by its case or a digit
	segment                     // a word after another character
)

// split takes name apart at other characters than letters and digits, at a change
// of case (tokenCount, JWTToken) and between letters and digits. name is not
// longer than maxName; other bytes than ASCII count as letters.
func (w *words) split(name []byte) {
	const (
		none = iota
		lower
		upper
		digit
	)
	before := none
	for i, c := range name[:min(len(name), maxName)] {
		is := none
		switch {
		case c >= 'a' && c <= 'z' || c >= 0x80:
			is = lower
		case c >= 'A' && c <= 'Z':
			is = upper
			c |= 0x20
		case c >= '0' && c <= '9':
			is = digit
		default:
			before = none
			continue
		}
		switch {
		case before == none:
			w.begins[w.n] = segment
		case before == lower && is == upper, (before == digit) != (is == digit):
			w.begins[w.n] = hump
		case before == upper && is == upper && i+1 < len(name) && name[i+1] >= 'a' && name[i+1] <= 'z':
			w.begins[w.n] = hump
		}
		w.text[w.n] = c
		w.n++
		before = is
	}
}

// neutral are words after the name of a secret that do not change what it is.
func neutral() []string {
	return []string{"value", "val", "plain", "plaintext", "raw", "text", "string", "hash", "new", "old", "current", "confirm", "confirmation", "again", "repeat"}
}

// trim returns how many of the first n bytes are left without neutral words and
// numbers at the end.
func (w *words) trim(n int) int {
	for n > 0 {
		start := n - 1
		for start > 0 && w.begins[start] == 0 {
			start--
		}
		word := string(w.text[start:n])
		is := word[0] >= '0' && word[0] <= '9'
		for _, s := range neutral() {
			is = is || s == word
		}
		if !is {
			break
		}
		n = start
	}
	return n
}

// describes reports whether a word from the byte i on speaks about a secret and is
// none itself.
func (w *words) describes(i int) bool {
	for i < w.n {
		end := i + 1
		for end < w.n && w.begins[end] == 0 {
			end++
		}
		switch string(w.text[i:end]) {
		case "changed", "change", "at", "reset", "required", "strength", "policy", "length", "count", "type", "kind",
			"expires", "expiry", "expired", "expiration", "exp", "iat", "age", "ttl", "created", "updated", "update", "last", "id",
			"name", "version", "arn", "valid", "invalid", "ok", "set", "enabled", "status", "state", "error", "failed", "attempts",
			"attempt", "retries", "min", "max", "url", "uri", "path", "file", "manager", "field", "rules", "rule", "score", "provider",
			"store", "ref", "algorithm", "algo", "alg", "format", "source", "location", "rotation", "rotated", "date", "time", "in",
			"ms", "days", "service", "mode", "used", "usage", "limit", "method", "grant", "label", "description", "request", "link",
			"sub", "scope", "scopes", "iss", "aud", "user", "username", "email", "role", "roles", "endpoint", "bucket", "size",
			"issuer", "audience", "present", "found", "missing", "exists", "is", "has", "code", "message", "stack", "event", "index":
			return true
		}
		i = end
	}
	return false
}

// named takes the secret out of a field whose name has kind k.
func (r *Redactor) named(rec *record.Record, f *record.Field, k kind) {
	if r.off[k.rule()] {
		r.redact(rec, &f.Value)
		return
	}
	text := r.text(f.Value)
	if len(text) == 0 || literal(text) {
		return
	}
	start, end := 0, len(text)
	switch k {
	case weak:
		if f.Value.Kind == record.Number && strings.HasSuffix(strings.ToLower(f.Name.String()), "s") {
			return // pass: 12
		}
	case directory:
		if text[0] == '/' {
			return
		}
	case authorization:
		from, to, found := r.s.credentials(text, true)
		if !found {
			return
		}
		start, end = from, to
	case cookies:
		if bytes.IndexByte(text, '=') >= 0 {
			r.rewrite(rec, &f.Value, true)
			return
		}
	case card, account, auth:
		if !k.holds(text) {
			r.redact(rec, &f.Value)
			return
		}
	}
	r.counts[k.rule()].Add(1)
	if start == 0 && end == len(text) {
		f.Value = record.Value{Kind: record.Text, Bytes: r.mask}
		return
	}
	mark := len(rec.Scratch)
	rec.Scratch = append(append(rec.Scratch, text[:start]...), Mask...)
	rec.Scratch = append(rec.Scratch, text[end:]...)
	f.Value = record.Value{Kind: record.Text, Bytes: rec.Scratch[mark:len(rec.Scratch):len(rec.Scratch)]}
}
