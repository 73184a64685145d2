package replay

import (
	"container/list"
	"sync"
	"sync/atomic"
)

// Memory bounds the bytes of all rings of a node. The coldest ring goes first:
// the one that was not added to or read from for longest. The warmest stays,
// however large it is: somebody is about to be served from it. It is safe for
// concurrent use.
type Memory struct {
	limit int64
	bytes atomic.Int64
	// evicted is how many rings had to go.
	evicted atomic.Uint64

	mu    sync.Mutex
	rings list.List // of *Share, coldest first
}

// Share is one ring's part of a Memory. The zero value is ready.
type Share struct {
	// Evict drops the ring. It is called without any lock of Memory, by
	// whoever called Reclaim, and calls Use(0).
	Evict func()

	bytes   int64         // guarded by Memory.mu
	element *list.Element // guarded by Memory.mu; nil while bytes is 0
}

// NewMemory returns a Memory of at most limit bytes.
func NewMemory(limit int) *Memory { return &Memory{limit: int64(limit)} }

// Use says that a ring was just used and has so many bytes now. It may be
// called under the ring's lock.
func (m *Memory) Use(s *Share, bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes.Add(int64(bytes) - s.bytes)
	s.bytes = int64(bytes)
	switch {
	case bytes == 0 && s.element != nil:
		m.rings.Remove(s.element)
		s.element = nil
	case bytes == 0:
	case s.element == nil:
		s.element = m.rings.PushBack(s)
	default:
		m.rings.MoveToBack(s.element)
	}
}

// Bytes is what all rings have.
func (m *Memory) Bytes() int64 { return m.bytes.Load() }

// Reclaim evicts the coldest rings while there are too many bytes. Call it
// without a lock that Evict takes.
func (m *Memory) Reclaim() {
	for m.bytes.Load() > m.limit {
		m.mu.Lock()
		coldest, warmest := m.rings.Front(), m.rings.Back()
		m.mu.Unlock()
		if coldest == warmest {
			return
		}
		if s, ok := coldest.Value.(*Share); ok {
			m.evicted.Add(1)
			s.Evict()
		}
	}
}
