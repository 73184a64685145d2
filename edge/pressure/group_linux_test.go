package pressure

import "testing"

// The files are as the kernel writes them.
func TestGroup(t *testing.T) {
	t.Parallel()
	v2 := t.TempDir()
	mustWrite(t, v2, map[string]string{
		"pod/memory.max":         "1000000\n",
		"pod/memory.current":     "900000\n",
		"pod/memory.stat":        "anon 500000\nfile 350000\nsock 20000\ninactive_file 300000\nactive_file 50000\nslab_reclaimable 10000\nslab_unreclaimable 20000\n",
		"pod/app/memory.max":     "max\n",
		"pod/app/memory.current": "1\n",
		"wide/memory.max":        "2000000\n",
		"wide/in/memory.max":     "3000000\n",
	})
	v1 := t.TempDir()
	mustWrite(t, v1, map[string]string{
		"memory.limit_in_bytes":        "9223372036854771712\n",
		"docker/memory.limit_in_bytes": "500000\n",
		"docker/memory.usage_in_bytes": "400000\n",
		"docker/memory.stat":           "cache 1\ninactive_file 7\ntotal_inactive_file 100000\ntotal_active_file 50000\n",
	})
	for _, test := range []struct {
		name, text  string
		limit, used int64 // 0: there is no group, or not how much it uses
	}{
		{"the group around bounds it", "0::/pod/app\n", 1000000, 540000},
		{"the tightest counts", "0::/wide/in\n", 2000000, 0},
		{"of another namespace", "0::/../../somewhere\n", 0, 0},
		{"version 1", "5:cpu:/docker\n4:memory:/docker\n", 500000, 250000},
		{"version 1 beside others", "4:cpu,memory:/docker\n0::/\n", 500000, 250000},
		{"version 1 without a limit", "4:memory:/\n0::/\n", 0, 0},
		{"nonsense", "x\n1:2\n", 0, 0},
	} {
		g := groupOf(test.text, v1, v2)
		if (g == nil) != (test.limit == 0) {
			t.Errorf("%s: found %+v, want a limit of %d", test.name, g, test.limit)
			continue
		}
		if g == nil {
			continue
		}
		used, ok := g.used()
		if g.limit != test.limit || used != test.used || ok != (test.used > 0) {
			t.Errorf("%s: limit %d, used %d (%t); want %d, %d", test.name, g.limit, used, ok, test.limit, test.used)
		}
	}
}

func TestMemoryOfTheMachine(t *testing.T) {
	t.Parallel()
	total := totalMemory()
	resident, ok := residentMemory()
	if total < 1<<20 || !ok || resident < 1<<20 || resident > total {
		t.Errorf("%d bytes of %d (%t) are of this process", resident, total, ok)
	}
}
