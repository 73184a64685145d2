package api

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"reecho/edge/limit"
)

// A body grows as it comes, and what it takes is counted and given back.
func TestBodyIsCounted(t *testing.T) {
	t.Parallel()
	const most = 1 << 20
	ledger := limit.NewLedger(slog.New(slog.DiscardHandler))
	for _, tt := range []struct {
		size         int
		announced    bool
		memory, used int64
		status       int // 0: read
	}{
		{0, true, 1 << 30, 0, 0},
		{1, true, 4 << 10, 0, 0},
		{1, true, 1 << 20, 1<<20 - 4<<10, 0},
		{1, true, 1 << 20, 1<<20 - 4<<10 + 1, 503},
		{4 << 10, false, 1 << 20, 1<<20 - 128<<10 - 8<<10, 0},
		{4 << 10, false, 1 << 20, 1<<20 - 128<<10 - 8<<10 + 1, 503},
		{most, true, 2 * most, 0, 0},
		{most, false, 2 * most, 0, 0},
		{most, false, 2 * most, most, 503},
		{most + 1, true, 2 * most, 0, 413},
		{most + 1, false, 2 * most, 0, 413},
		{most + 1, true, 2 * most, 2 * most, 413}, // is not read at all
		// Large ones leave a quarter.
		{64<<10 - 1, false, 1 << 20, 1<<20 - 128<<10 - 64<<10, 0},
		{64<<10 - 1, false, 1 << 20, 1<<20 - 64<<10, 503},
		{64 << 10, false, 1 << 20, 1<<20 - 256<<10, 503},
		{64 << 10, false, 1 << 20, 1<<20 - 256<<10 - 128<<10, 0},
		// What there is never room for.
		{most, true, most, 0, 413},
		{most, false, most, 0, 413},
		{most/4*3 - 1, false, most, 0, 0},
		{20_000, false, 8 << 10, 0, 413},
		{7<<10 - 1, false, 8 << 10, 0, 0},
		{7 << 10, false, 8 << 10, 0, 413},
		{4<<10 - 1, false, 4 << 10, 0, 0},
	} {
		m := &memory{limit: tt.memory, ledger: ledger}
		m.used = tt.used
		body := newBuffer(m, nil)
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/", io.LimitReader(zeros{}, int64(tt.size)))
		if r.ContentLength = -1; tt.announced {
			r.ContentLength = int64(tt.size)
		}
		got, err := body.read(r, most)
		var f *failure
		switch {
		case tt.status == 0 && (err != nil || len(got) != tt.size || !body.whole):
			t.Errorf("%+v: %d bytes, error %v", tt, len(got), err)
		case tt.status != 0 && (!errors.As(err, &f) || f.status != tt.status || body.whole):
			t.Errorf("%+v: error %v", tt, err)
		}
		if used := m.used; used > tt.memory || used < tt.used+int64(cap(body.bytes)) {
			t.Errorf("%+v: %d bytes are counted, the buffer has %d", tt, used, cap(body.bytes))
		}
		body.putBack()
		if used := m.used; used != tt.used {
			t.Errorf("%+v: %d bytes are counted in the end", tt, used)
		}
	}
	if n := ledger.Total(limit.RequestMemory); n != 5 {
		t.Errorf("%d refusals are counted, want 5", n)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// A body that ends early is the caller's mistake.
func TestBodyThatEndsEarly(t *testing.T) {
	t.Parallel()
	body := newBuffer(&memory{limit: 1 << 20}, nil)
	defer body.putBack()
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/", io.MultiReader(strings.NewReader("{"), failing{}))
	r.ContentLength = -1
	var f *failure
	if _, err := body.read(r, 100); !errors.As(err, &f) || f.status != http.StatusBadRequest || body.whole {
		t.Errorf("error %v", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
