package parse

import (
	"bytes"
	"strconv"
	"time"

	"sidecar/internal/record"
)

const (
	usecPerSec = 1_000_000
	// endOfYear9999 is the first microsecond that the index has no date for
	// (graylog.md 0, fact 7).
	endOfYear9999 = 253402300800 * usecPerSec
)

// resolveTime sets the record's time: the document's, if it is sane, else the
// envelope's.
func (p *Parser) resolveTime(env *envelope) {
	p.rec.TimeUsec = env.timeUsec
	chosen := slotNone
	for s := slotTimestamp; s <= slotMetaTimestamp; s++ {
		if !p.has(s) {
			continue
		}
		t := p.found[s].token
		usec, sane := p.timeOf(t, env.timeUsec)
		switch {
		case chosen != slotNone:
			// Winston's alias option writes the same time twice.
			if s == slotAtTimestamp && sane && usec == p.rec.TimeUsec {
				p.remove(s)
			}
		case sane:
			chosen = s
			p.rec.TimeUsec = usec
			if s != slotMetaTimestamp {
				p.remove(s)
			}
		case s == slotTimestamp:
			if v, says := p.value(t); says && t.kind != kindNull {
				p.rec.Degraded |= record.TimestampRejected
				p.own(p.ownNames.timestampOriginal, v)
			}
		}
	}
}

// timeOf returns the time that a token holds, in microseconds since the Unix
// epoch; sane is false if it holds none, or one outside the window around the
// time of the entry.
func (p *Parser) timeOf(t token, entryUsec int64) (usec int64, sane bool) {
	src := p.src[t.start:t.end]
	var local, found bool
	switch t.kind {
	case kindString:
		usec, local, found = p.parseTime(trimBlank(src[1 : len(src)-1]))
	case kindNumber:
		usec, found = epoch(src)
	}
	if !found || usec <= 0 || usec >= endOfYear9999 {
		return 0, false
	}
	if local && p.opt.Zone == nil && entryUsec > 0 {
		usec = nearest(usec, entryUsec)
	}
	if entryUsec > 0 && (usec < entryUsec-p.pastUsec || usec > entryUsec+p.futureUsec) {
		return 0, false
	}
	return usec, true
}

// nearest returns the time usec, read as UTC but written in an unknown zone, in
// the zone that brings it close to the time of its entry, if there is one. Zones
// are multiples of a half hour from UTC-12 to UTC+14.
func nearest(usec, entryUsec int64) int64 {
	const (
		step  = 30 * 60 * usecPerSec
		slack = 60 * usecPerSec
		west  = -24 * step
		east  = 28 * step
	)
	diff := usec - entryUsec
	if diff < west-slack || diff > east+slack {
		return usec
	}
	offset := (diff + east + step/2) / step * step // east makes it positive enough to round
	offset -= east
	if rest := diff - offset; rest < -slack || rest > slack {
		return usec
	}
	return usec - offset
}

// epoch returns the time of a number of seconds, milliseconds, microseconds or
// nanoseconds since the Unix epoch; its size tells the unit. Numbers below 1e8
// are no times.
func epoch(num []byte) (usec int64, found bool) {
	n, frac, i := int64(0), int64(0), 0
	for ; i < len(num) && num[i]-'0' <= 9; i++ {
		if i == 19 {
			return 0, false
		}
		n = n*10 + int64(num[i]-'0')
	}
	if i == 0 || n < 0 {
		return 0, false
	}
	if i < len(num) && num[i] == '.' {
		frac, i = fraction(num, i+1)
	}
	if i < len(num) {
		return epochFloat(num)
	}
	switch {
	case n >= 1e17:
		return n / 1000, true
	case n >= 1e14:
		return n, true
	case n >= 1e11:
		return n*1000 + frac/1000, true
	case n >= 1e8:
		return n*usecPerSec + frac, true
	}
	return 0, false
}

// epochFloat is epoch for a number with an exponent.
func epochFloat(num []byte) (usec int64, found bool) {
	if len(num) > 32 || num[0] == '+' || bytes.IndexByte(num, '_') >= 0 {
		return 0, false
	}
	x, err := strconv.ParseFloat(string(num), 64)
	if err != nil || x < 1e8 || x >= 1e18 {
		return 0, false
	}
	switch {
	case x >= 1e17:
		return int64(x / 1000), true
	case x >= 1e14:
		return int64(x), true
	case x >= 1e11:
		return int64(x * 1000), true
	}
	return int64(x * usecPerSec), true
}

// fraction returns the microseconds of the decimals at b[i:] and the index after
// them.
func fraction(b []byte, i int) (usec int64, end int) {
	unit := int64(100_000)
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		usec += int64(b[i]-'0') * unit
		unit /= 10
	}
	return usec, i
}

// parseTime returns the time that a text holds. local is true if it says no
// zone: then it is in Options.Zone, or UTC.
//
// Known are ISO 8601 and RFC 3339 with their usual deviations, numbers since the
// epoch, JavaScript's Date.toString and toUTCString, RFC 5322 and the time of
// the common log format. Everything that could be read in two ways is refused.
func (p *Parser) parseTime(b []byte) (usec int64, local, found bool) {
	if len(b) < 9 || len(b) > 100 {
		return 0, false, false
	}
	c := cursor{b: b}
	var t clock
	switch {
	case b[0]-'0' > 9:
		found = c.weekday(&t)
	case len(b) >= 19 && (b[4] == '-' || b[4] == '/'):
		found = c.iso(&t, b[4])
	case len(b) >= 15 && (b[8] == 'T' || b[8] == 't'):
		found = c.basic(&t)
	case len(b) >= 20 && b[2] == '/':
		found = c.clf(&t)
	case b[1]-'0' <= 9 || b[1] == '.':
		usec, found = epoch(b)
		return usec, false, found
	default:
		return 0, false, false
	}
	if !found || !c.zone(&t) || !t.valid() {
		return 0, false, false
	}
	return p.instant(&t)
}

// clock is a date and a time of day as it was written.
type clock struct {
	year, month, day  int
	hour, minute, sec int
	usec              int64
	offset            int // seconds east of UTC
	zoned             bool
}

// valid reports whether the date and the time exist. Second 60 is a leap second.
func (t *clock) valid() bool {
	return t.month >= 1 && t.month <= 12 && t.day >= 1 && t.day <= monthDays(t.year, t.month) &&
		t.hour <= 23 && t.minute <= 59 && t.sec <= 60 && t.year >= 1970
}

func monthDays(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// instant returns the time of t, which is valid.
func (p *Parser) instant(t *clock) (usec int64, local, found bool) {
	if !t.zoned && p.opt.Zone != nil {
		at := time.Date(t.year, time.Month(t.month), t.day, t.hour, t.minute, t.sec, 0, p.opt.Zone)
		return at.Unix()*usecPerSec + t.usec, true, true
	}
	sec := int64(days(t.year, t.month, t.day))*86400 + int64(t.hour*3600+t.minute*60+t.sec-t.offset)
	return sec*usecPerSec + t.usec, !t.zoned, true
}

// days returns the days from 1970-01-01 to a date of the Gregorian calendar.
func days(year, month, day int) int {
	if month <= 2 {
		year, month = year-1, month+12
	}
	// March is the first month of the shifted year, so that the leap day is last.
	return 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 719469
}

// cursor reads a text from left to right. Its methods report whether they found
// what they look for.
type cursor struct {
	b []byte
	i int
}

// lit reads one byte.
func (c *cursor) lit(x byte) bool {
	if c.i < len(c.b) && c.b[c.i] == x {
		c.i++
		return true
	}
	return false
}

// num reads exactly n digits.
func (c *cursor) num(n int, v *int) bool {
	if c.i+n > len(c.b) {
		return false
	}
	x := 0
	for _, d := range c.b[c.i : c.i+n] {
		if d -= '0'; d > 9 {
			return false
		} else {
			x = x*10 + int(d)
		}
	}
	c.i += n
	*v = x
	return true
}

// hms reads hh:mm:ss and its decimals after a point or comma.
func (c *cursor) hms(t *clock) bool {
	if !c.num(2, &t.hour) || !c.lit(':') || !c.num(2, &t.minute) || !c.lit(':') || !c.num(2, &t.sec) {
		return false
	}
	return c.decimals(t)
}

// decimals reads the decimals of a second, if there are any.
func (c *cursor) decimals(t *clock) bool {
	if !c.lit('.') && !c.lit(',') {
		return true
	}
	start := c.i
	t.usec, c.i = fraction(c.b, c.i)
	return c.i > start
}

// iso reads 2026-11-17T08:15:30.123, also with slashes and a blank.
func (c *cursor) iso(t *clock, sep byte) bool {
	return c.num(4, &t.year) && c.lit(sep) && c.num(2, &t.month) && c.lit(sep) && c.num(2, &t.day) &&
		(c.lit('T') || c.lit(' ') || c.lit('t')) && c.hms(t)
}

// basic reads 20261117T081530.
func (c *cursor) basic(t *clock) bool {
	return c.num(4, &t.year) && c.num(2, &t.month) && c.num(2, &t.day) && (c.lit('T') || c.lit('t')) &&
		c.num(2, &t.hour) && c.num(2, &t.minute) && c.num(2, &t.sec) && c.decimals(t)
}

// clf reads 17/Nov/2026:08:15:30.
func (c *cursor) clf(t *clock) bool {
	return c.num(2, &t.day) && c.lit('/') && c.monthName(t) && c.lit('/') && c.num(4, &t.year) && c.lit(':') &&
		c.hms(t) && c.i < len(c.b)
}

// weekday reads "Tue Nov 17 2026 08:15:30" (Date.toString) and "Tue, 17 Nov 2026
// 08:15:30" (Date.toUTCString, RFC 5322). Both must name a zone.
func (c *cursor) weekday(t *clock) bool {
	if len(c.b) < 24 {
		return false
	}
	c.i = 3
	if c.lit(',') {
		return c.lit(' ') && (c.num(2, &t.day) || c.num(1, &t.day)) && c.lit(' ') && c.monthName(t) && c.lit(' ') &&
			c.num(4, &t.year) && c.lit(' ') && c.hms(t) && c.i < len(c.b)
	}
	return c.lit(' ') && c.monthName(t) && c.lit(' ') && c.num(2, &t.day) && c.lit(' ') &&
		c.num(4, &t.year) && c.lit(' ') && c.hms(t) && c.i < len(c.b)
}

// monthName reads Jan, Feb, …
func (c *cursor) monthName(t *clock) bool {
	const months = "JanFebMarAprMayJunJulAugSepOctNovDec"
	if c.i+3 > len(c.b) {
		return false
	}
	for m := 0; m < 12; m++ {
		if string(c.b[c.i:c.i+3]) == months[3*m:3*m+3] {
			t.month = m + 1
			c.i += 3
			return true
		}
	}
	return false
}

// zone reads what may follow a time: nothing, or a zone as Z, GMT, UTC, ±hh,
// ±hhmm, ±hh:mm or GMT±hhmm, and the zone's name in parentheses.
func (c *cursor) zone(t *clock) bool {
	if c.i == len(c.b) {
		return true
	}
	c.lit(' ')
	rest := c.b[c.i:]
	switch {
	case c.lit('Z') || c.lit('z'):
		t.zoned = true
		return c.i == len(c.b)
	case len(rest) >= 3 && (string(rest[:3]) == "GMT" || string(rest[:3]) == "UTC"):
		t.zoned = true
		c.i += 3
	}
	sign := 0
	if c.lit('+') {
		sign = 1
	} else if c.lit('-') {
		sign = -1
	}
	if sign != 0 {
		var h, m int
		if !c.num(2, &h) {
			return false
		}
		if c.lit(':') || c.i < len(c.b) && c.b[c.i]-'0' <= 9 {
			if !c.num(2, &m) {
				return false
			}
		}
		if h > 15 || m > 59 {
			return false
		}
		t.zoned = true
		t.offset = sign * (h*3600 + m*60)
	}
	if t.zoned && c.lit(' ') {
		return c.lit('(') && c.b[len(c.b)-1] == ')'
	}
	return t.zoned && c.i == len(c.b)
}
