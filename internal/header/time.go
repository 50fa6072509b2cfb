package header

import "time"

// digits reads n digits.
func digits(b []byte, n int) (v int, ok bool) {
	if len(b) < n {
		return 0, false
	}
	for _, c := range b[:n] {
		if c-'0' > 9 {
			return 0, false
		}
		v = v*10 + int(c-'0')
	}
	return v, true
}

// timestamp reads an RFC 3339 time at the beginning of b, in microseconds since the
// Unix epoch. size is its length, or 0 if there is none; RFC 5424 section 6.2.3
// allows six decimals, more are read and cut.
func timestamp(b []byte) (usec int64, size int) {
	if len(b) < 20 || b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' {
		return 0, 0
	}
	var parts [6]int
	for i, p := range [6]struct{ at, n int }{{0, 4}, {5, 2}, {8, 2}, {11, 2}, {14, 2}, {17, 2}} {
		v, ok := digits(b[p.at:], p.n)
		if !ok {
			return 0, 0
		}
		parts[i] = v
	}
	year, month, day, hour, minute, sec := parts[0], parts[1], parts[2], parts[3], parts[4], parts[5]
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || sec > 60 {
		return 0, 0
	}
	frac, i := fraction(b, 19)
	if i == 0 || i == len(b) {
		return 0, 0
	}
	offset := 0
	switch c := b[i]; c {
	case 'Z':
		i++
	case '+', '-':
		h, ok := digits(b[i+1:], 2)
		if !ok || len(b) < i+6 || b[i+3] != ':' {
			return 0, 0
		}
		m, ok := digits(b[i+4:], 2)
		if !ok || h > 23 || m > 59 {
			return 0, 0
		}
		offset = h*3600 + m*60
		if c == '-' {
			offset = -offset
		}
		i += 6
	default:
		return 0, 0
	}
	unix := int64(daysSinceEpoch(year, month, day))*86400 + int64(hour*3600+minute*60+sec-offset)
	return unix*1e6 + int64(frac), i
}

// fraction reads "." and decimals at b[i:], if there are any, as microseconds. It
// returns the offset behind them, or 0 if the point has no digit behind it.
func fraction(b []byte, i int) (usec, end int) {
	if i >= len(b) || b[i] != '.' {
		return 0, i
	}
	scale := 100_000
	end = i + 1
	for end < len(b) && b[end]-'0' <= 9 {
		usec += int(b[end]-'0') * scale
		scale /= 10
		end++
	}
	if end == i+1 {
		return 0, 0
	}
	return usec, end
}

func daysIn(year, month int) int {
	switch {
	case month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0):
		return 29
	case month == 2:
		return 28
	case month == 4 || month == 6 || month == 9 || month == 11:
		return 30
	}
	return 31
}

// daysSinceEpoch counts the days from 1970-01-01 in the Gregorian calendar, by years
// that begin in March, so that the leap day is their last.
func daysSinceEpoch(year, month, day int) int {
	if month <= 2 {
		year, month = year-1, month+12
	}
	return 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1 - 719468
}

const months = "JanFebMarAprMayJunJulAugSepOctNovDec"

// monthOf returns 1 to 12 for the month's name at the beginning of b, or 0.
func monthOf(b []byte) int {
	for i := 0; i < len(months); i += 3 {
		if string(b[:3]) == months[i:i+3] {
			return i/3 + 1
		}
	}
	return 0
}

// zoneCache is the offset of the zone at the last time that was read: it is the same
// for all times of one hour, and finding it costs more than the rest of a header.
type zoneCache struct {
	hour   int64 // hours since the epoch, as if the local time were UTC
	offset int64 // seconds
	valid  bool
}

// bsdTime reads "Nov 17 08:15:30" (RFC 3164 section 4.1.2), with "Nov  7" and "Nov 07",
// and with a year or decimals as Cisco's devices and syslog-ng write them, in
// microseconds since the Unix epoch. Without a year it is the one that brings the
// time closest to nowUsec. size is its length, or 0 if there is none.
func (r *Reader) bsdTime(b []byte, nowUsec int64) (usec int64, size int) {
	if len(b) < 15 || b[3] != ' ' || b[6] != ' ' {
		return 0, 0
	}
	month := monthOf(b)
	day, ok := digits(b[4:], 2)
	if b[4] == ' ' {
		day, ok = digits(b[5:], 1)
	}
	if month == 0 || !ok || day == 0 {
		return 0, 0
	}
	at, year := 7, 0
	if y, ok := digits(b[7:], 4); ok && len(b) >= 20 && b[11] == ' ' {
		at, year = 12, y
	}
	hour, ok1 := digits(b[at:], 2)
	minute, ok2 := digits(b[at+3:], 2)
	sec, ok3 := digits(b[at+6:], 2)
	if !ok1 || !ok2 || !ok3 || b[at+2] != ':' || b[at+5] != ':' || hour > 23 || minute > 59 || sec > 60 {
		return 0, 0
	}
	frac, end := fraction(b, at+8)
	if end == 0 || day > daysIn(max(year, 4), month) { // without a year it may be a leap year's
		return 0, 0
	}
	second := hour*3600 + minute*60 + sec
	if year > 0 {
		return r.local(year, month, day, second)*1e6 + int64(frac), end
	}
	if nowUsec == 0 {
		return 0, end
	}
	now := nowUsec / 1e6
	thisYear := time.Unix(now, 0).UTC().Year()
	best := r.local(thisYear, month, day, second)
	for _, y := range []int{thisYear - 1, thisYear + 1} {
		if abs(best-now) <= 180*86400 {
			break
		}
		if t := r.local(y, month, day, second); abs(t-now) < abs(best-now) {
			best = t
		}
	}
	return best*1e6 + int64(frac), end
}

// local returns the Unix time of a local time in the zone of r.
func (r *Reader) local(year, month, day, second int) int64 {
	utc := int64(daysSinceEpoch(year, month, day))*86400 + int64(second)
	if hour := utc / 3600; !r.zone.valid || r.zone.hour != hour {
		zone := r.Zone
		if zone == nil {
			zone = time.Local
		}
		t := time.Date(year, time.Month(month), day, 0, 0, second, 0, zone)
		r.zone = zoneCache{hour: hour, offset: utc - t.Unix(), valid: true}
	}
	return utc - r.zone.offset
}

func abs(v int64) int64 {
	if v < 0 {
		return -v
	}
	return v
}
