package guard

import (
	"strconv"

	"sidecar/internal/record"
)

// shape is what a value looks like to an index.
type shape uint8

const (
	text        shape = iota
	number            // JSON number that long and float hold
	largeNumber       // JSON number that long or float refuses
	numeric           // string that long and float take for a number
	isoDate           // string that strict_date_optional_time takes in every version
	slashDate         // string that yyyy/MM/dd HH:mm:ss||yyyy/MM/dd takes
	maybeDate         // string that some version might take for a date
)

func (s shape) String() string {
	switch s {
	case number:
		return "number"
	case largeNumber:
		return "number beyond long"
	case isoDate:
		return "date"
	case slashDate:
		return "slash-date"
	case maybeDate:
		return "date-like text"
	}
	return "text"
}

// dateLike reports whether date detection might take a string of this shape.
func (s shape) dateLike() bool { return s == isoDate || s == slashDate || s == maybeDate }

// kindOf returns the kind of a field whose first value has shape s.
func kindOf(s shape) Kind {
	switch s {
	case number, largeNumber:
		return Number
	case isoDate:
		return Date
	case slashDate:
		return SlashDate
	}
	return String
}

// holds reports whether a field of kind k may have a value of shape s as it is.
func (k Kind) holds(s shape) bool {
	switch k {
	case Number:
		return s == number || s == numeric
	case Date:
		return s == isoDate
	case SlashDate:
		return s == slashDate
	}
	return s == text || s == numeric
}

// shapeOf returns the shape of a value. It allocates nothing.
func shapeOf(v record.Value) shape {
	if v.Kind == record.Number {
		if isInRange(v.Bytes) {
			return number
		}
		return largeNumber
	}
	// Nearly all strings begin with something that no number or date begins with.
	b := v.Bytes
	if v.Kind == record.Quoted {
		b = b[1:]
	}
	if len(b) == 0 || b[0] > '9' && b[0] != '\\' {
		return text
	}
	var buf [maxPlain]byte
	s, ok := plain(v, &buf)
	if !ok {
		return text
	}
	return stringShape(s)
}

// maxPlain is longer than every date with a zone by name.
const maxPlain = 96

// plain returns the text of a string value without blanks at its ends, which
// Graylog trims (all bytes up to space, graylog.md 1.5), in buf. ok is false if it
// is blank, longer than maxPlain or not printable ASCII inside: then it is neither
// a number nor a date.
func plain(v record.Value, buf *[maxPlain]byte) (s []byte, ok bool) {
	b, quoted := v.Bytes, v.Kind == record.Quoted
	if quoted {
		b = b[1 : len(b)-1]
	}
	n, end, control := 0, 0, false
	for i := 0; i < len(b); {
		c := b[i]
		i++
		if c == '\\' && quoted {
			c, i = unescape(b, i)
		}
		if c <= ' ' {
			if end > 0 && n < maxPlain {
				buf[n] = c
				n++
				control = control || c < ' '
			}
			continue
		}
		if n == maxPlain || control || c >= 0x7f {
			return nil, false
		}
		buf[n] = c
		n++
		end = n
	}
	return buf[:end], end > 0
}

// unescape returns the character of the JSON escape whose backslash is before
// b[i] (RFC 8259 section 7), and the index behind it; 0x80 stands for all characters
// that are not ASCII.
func unescape(b []byte, i int) (c byte, next int) {
	if i == len(b) {
		return 0x80, i
	}
	c = b[i]
	i++
	switch c {
	case 'b', 'f', 'n', 'r', 't':
		return '\n', i // all of them are trimmed
	case 'u':
		if len(b)-i < 4 {
			return 0x80, len(b)
		}
		r, err := strconv.ParseUint(string(b[i:i+4]), 16, 16)
		if err != nil || r >= 0x80 {
			return 0x80, i + 4
		}
		return byte(r), i + 4
	}
	return c, i
}

// stringShape returns the shape of a string that is not blank.
func stringShape(s []byte) shape {
	if isNumeric(s) {
		return numeric
	}
	switch {
	case !isDateLike(s):
		return text
	case isISODate(s):
		return isoDate
	case isSlashDate(s):
		return slashDate
	}
	return maybeDate
}

// isNumeric reports whether long and float fields take the string for a number.
// They take more: a type letter, hexadecimal floats, digits of other scripts.
func isNumeric(s []byte) bool {
	t := trimSign(s, "-")
	n := countDigits(t)
	if n == 0 {
		return false
	}
	if t = t[n:]; len(t) > 0 && t[0] == '.' {
		n = countDigits(t[1:])
		if n == 0 {
			return false
		}
		t = t[1+n:]
	}
	if len(t) > 0 && (t[0] == 'e' || t[0] == 'E') {
		t = trimSign(t[1:], "+-")
		n = countDigits(t)
		if n == 0 {
			return false
		}
		t = t[n:]
	}
	return len(t) == 0 && isInRange(s)
}

// isInRange reports whether long holds the number, cut to a whole one, and so
// float does too: int64 is within float32. A field that one index has as long
// another one may have as float, so the narrower range counts. Of decimals and
// exponents, some near the limit are refused that would fit.
func isInRange(token []byte) bool {
	t := trimSign(token, "-")
	for len(t) > 1 && t[0] == '0' && t[1] <= '9' && t[1] >= '0' {
		t = t[1:]
	}
	whole := countDigits(t)
	if whole == len(t) {
		limit := "9223372036854775807"
		if token[0] == '-' {
			limit = "9223372036854775808"
		}
		return whole < len(limit) || whole == len(limit) && string(t) <= limit
	}
	rest := t[whole:]
	if rest[0] == '.' {
		rest = rest[1+countDigits(rest[1:]):]
	}
	exponent := 0
	if len(rest) > 0 {
		var err error
		// Java makes a decimal of that many digits of it: an exponent far below zero
		// is refused as well.
		if exponent, err = strconv.Atoi(string(rest[1:min(len(rest), 8)])); err != nil || exponent < -400 || len(rest) > 8 {
			return false
		}
	}
	// It is below ten to the power of this.
	return whole+exponent <= 18
}

// isDateLike reports whether some version of OpenSearch or Elasticsearch might
// take the string for a date. Their dynamic formats are
// strict_date_optional_time||epoch_millis and
// yyyy/MM/dd HH:mm:ss||yyyy/MM/dd||epoch_millis, and numbers are left out before
// (RootObjectMapper, DocumentParser). Zones may be names.
func isDateLike(s []byte) bool {
	t := trimSign(s, "+-")
	n := countDigits(t)
	if n != 4 && (len(t) == len(s) || n < 4 || n > 10) {
		return false
	}
	t = t[n:]
	if len(t) < 3 || t[0] != '-' && t[0] != '/' || !areDigits(t[1:3]) {
		return false
	}
	separator, delimiter := t[0], byte('T')
	if t = t[3:]; len(t) == 0 {
		return separator == '-'
	}
	if separator == '/' {
		delimiter = ' '
	}
	if len(t) < 3 || t[0] != separator || !areDigits(t[1:3]) {
		return false
	}
	t = t[3:]
	return len(t) == 0 || t[0] == delimiter
}

// isISODate reports whether every version takes the string, which is date-like,
// by strict_date_optional_time: yyyy-MM-dd, or with THH:mm:ss, 3 to 9 decimals or
// none, and no zone, Z or an offset as +01:00 or +0100.
func isISODate(s []byte) bool {
	if len(s) < 10 || s[4] != '-' || !isDay(s) {
		return false
	}
	t := s[10:]
	if len(t) == 0 {
		return true
	}
	if len(t) < 9 || !isClock(t[1:9]) {
		return false
	}
	if t = t[9:]; len(t) > 0 && t[0] == '.' {
		n := countDigits(t[1:])
		if n < 3 || n > 9 {
			return false
		}
		t = t[1+n:]
	}
	if len(t) == 0 || len(t) == 1 && t[0] == 'Z' {
		return true
	}
	if len(t) == 6 && t[3] == ':' {
		return (t[0] == '+' || t[0] == '-') && isBelow(t[1:3], 18) && isBelow(t[4:6], 60)
	}
	return len(t) == 5 && (t[0] == '+' || t[0] == '-') && isBelow(t[1:3], 18) && isBelow(t[3:5], 60)
}

// isSlashDate reports whether the string, which is date-like, is yyyy/MM/dd or
// yyyy/MM/dd HH:mm:ss.
func isSlashDate(s []byte) bool {
	return len(s) >= 10 && s[4] == '/' && isDay(s) && (len(s) == 10 || len(s) == 19 && isClock(s[11:]))
}

// isDay reports whether s begins with a day of the calendar: year, month and day
// of 4, 2 and 2 characters, with one between them. Years before 1000 are left out.
func isDay(s []byte) bool {
	if !areDigits(s[:4]) || s[0] == '0' || !areDigits(s[5:7]) || !areDigits(s[8:10]) {
		return false
	}
	year, month, day := twoDigits(s)*100+twoDigits(s[2:]), twoDigits(s[5:]), twoDigits(s[8:])
	days := 31
	switch month {
	case 4, 6, 9, 11:
		days = 30
	case 2:
		days = 28
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			days = 29
		}
	}
	return month >= 1 && month <= 12 && day >= 1 && day <= days
}

// isClock reports whether s, of 8 bytes, is HH:mm:ss.
func isClock(s []byte) bool {
	return isBelow(s, 24) && s[2] == ':' && isBelow(s[3:], 60) && s[5] == ':' && isBelow(s[6:], 60)
}

// isBelow reports whether s begins with two digits that are a number below limit.
func isBelow(s []byte, limit int) bool { return areDigits(s[:2]) && twoDigits(s) < limit }

func twoDigits(s []byte) int { return int(s[0]-'0')*10 + int(s[1]-'0') }

func areDigits(s []byte) bool { return countDigits(s) == len(s) }

// countDigits returns how many digits s begins with.
func countDigits(s []byte) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// trimSign returns s without one of the signs at its beginning.
func trimSign(s []byte, signs string) []byte {
	if len(s) > 0 && (s[0] == signs[0] || len(signs) > 1 && s[0] == signs[1]) {
		return s[1:]
	}
	return s
}
