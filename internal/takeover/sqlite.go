package takeover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
)

// database is an SQLite 3 database in memory, read only as far as a table with a
// few short values needs it (https://www.sqlite.org/fileformat2.html): table
// b-trees, and of each row what stands on its page. Indexes, overflow pages,
// UTF-16 and what is in a write-ahead log are not read.
type database struct {
	b           []byte
	pageBytes   int
	usableBytes int // of a page
}

var errNotDatabase = errors.New("it is not an SQLite database, or a damaged one")

// openDatabase reads the database at path. One with changes beside it, in a
// write-ahead log or a rollback journal, is refused.
func openDatabase(path string) (*database, error) {
	for _, suffix := range []string{"-wal", "-journal"} {
		if info, err := os.Stat(path + suffix); err == nil && info.Size() > 0 {
			return nil, fmt.Errorf("it has unfinished changes in %s%s: stop its program, or run sqlite3 %s 'PRAGMA wal_checkpoint(TRUNCATE)'", path, suffix, path)
		}
	}
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) < 512 || string(b[:16]) != "SQLite format 3\x00" {
		return nil, errNotDatabase
	}
	db := &database{b: b, pageBytes: int(binary.BigEndian.Uint16(b[16:]))}
	if db.pageBytes == 1 {
		db.pageBytes = 65536
	}
	db.usableBytes = db.pageBytes - int(b[20])
	if db.pageBytes < 512 || db.usableBytes < 480 {
		return nil, errNotDatabase
	}
	if encoding := binary.BigEndian.Uint32(b[56:]); encoding > 1 {
		return nil, errors.New("its texts are UTF-16, want UTF-8")
	}
	return db, nil
}

// value is a column of a row: a text, or a number, or neither.
type value struct {
	text   string
	number int64
}

// table calls visit for each row of the table of that name, in the order of their
// row IDs.
func (db *database) table(name string, visit func(row []value)) error {
	root := int64(0)
	err := db.walk(1, func(row []value) { // the schema: type, name, tbl_name, rootpage, sql
		if len(row) > 3 && row[0].text == "table" && row[1].text == name {
			root = row[3].number
		}
	})
	if err != nil {
		return err
	}
	if root == 0 {
		return fmt.Errorf("it has no table %s", name)
	}
	return db.walk(root, visit)
}

// walk visits the rows of the table b-tree with that root page.
func (db *database) walk(root int64, visit func(row []value)) error {
	const interiorPage, leafPage = 5, 13
	pages := []int64{root}
	for seen := 0; len(pages) > 0; seen++ {
		number := pages[len(pages)-1]
		pages = pages[:len(pages)-1]
		if number < 1 || number > int64(len(db.b)/db.pageBytes) || seen > len(db.b)/db.pageBytes {
			return errNotDatabase
		}
		page := db.b[(number-1)*int64(db.pageBytes):][:db.usableBytes]
		head := page
		if number == 1 {
			head = page[100:]
		}
		kind, cells := head[0], int(binary.BigEndian.Uint16(head[3:]))
		pointers := head[8:]
		if kind == interiorPage {
			pages = append(pages, int64(binary.BigEndian.Uint32(head[8:])))
			pointers = head[12:]
		} else if kind != leafPage {
			return errNotDatabase
		}
		if 2*cells > len(pointers) {
			return errNotDatabase
		}
		children := len(pages)
		for i := range cells {
			at := int(binary.BigEndian.Uint16(pointers[2*i:]))
			if at+4 > len(page) {
				return errNotDatabase
			}
			if kind == interiorPage {
				pages = append(pages, int64(binary.BigEndian.Uint32(page[at:])))
			} else {
				visit(columns(payload(page[at:], db.usableBytes)))
			}
		}
		slices.Reverse(pages[children:]) // the first child is the next page
	}
	return nil
}

// payload returns what stands on the page of the record of a cell of a leaf page.
func payload(cell []byte, usableBytes int) []byte {
	size, n := varint(cell)
	cell = cell[n:]
	_, n = varint(cell) // the row ID
	cell = cell[n:]
	local, longest := size, uint64(usableBytes-35)
	if size > longest { // the rest is on overflow pages
		least := uint64((usableBytes-12)*32/255 - 23)
		if local = least + (size-least)%uint64(usableBytes-4); local > longest {
			local = least
		}
	}
	return cell[:min(local, uint64(len(cell)))]
}

// columns decodes a record: the length of its header, a serial type for each
// column, the values. What is cut off at the end of b is left out.
func columns(b []byte) []value {
	size, n := varint(b)
	if size < uint64(n) || size > uint64(len(b)) {
		return nil
	}
	header, body := b[n:size], b[size:]
	var row []value
	for len(header) > 0 {
		kind, n := varint(header)
		if n == 0 {
			return row
		}
		header = header[n:]
		length := uint64(0)
		switch {
		case kind >= 12: // blobs are even, texts are odd
			length = (kind - 12) / 2
		case kind >= 1 && kind <= 7:
			length = []uint64{1, 2, 3, 4, 6, 8, 8}[kind-1]
		}
		if length > uint64(len(body)) {
			return row
		}
		var v value
		switch {
		case kind >= 12:
			v.text = string(body[:length])
		case kind <= 6:
			v.number = integer(body[:length])
		case kind == 9:
			v.number = 1
		}
		row, body = append(row, v), body[length:]
	}
	return row
}

// integer returns a big-endian number with a sign; 0 if it has no bytes.
func integer(b []byte) int64 {
	n := int64(0)
	for i, c := range b {
		if i == 0 {
			n = int64(int8(c))
			continue
		}
		n = n<<8 | int64(c)
	}
	return n
}

// varint reads a number of one to nine bytes, seven bits in each but the ninth,
// the highest first. n is 0 if b is too short.
func varint(b []byte) (v uint64, n int) {
	for i, c := range b {
		if i == 8 {
			return v<<8 | uint64(c), 9
		}
		v = v<<7 | uint64(c&0x7f)
		if c < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}
