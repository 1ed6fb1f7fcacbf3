// pool MODE THREADS COUNT: bench/pool.c in Go, which see. A pool is sync.Pool; goroutines in place of threads, on as
// many processors.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const bytes = 1024

type buffer [bytes]byte

var pool = sync.Pool{New: func() interface{} { return new(buffer) }}

// Keeps what is allocated on the heap.
var sinks [64]*buffer

func use(b *buffer, i uint64) uint64 {
	binary.LittleEndian.PutUint64(b[:], i)
	return binary.LittleEndian.Uint64(b[:]) * 31
}

func fromPool(count uint64, thread int) (checksum uint64) {
	for i := uint64(0); i < count; i++ {
		b := pool.Get().(*buffer)
		checksum += use(b, i)
		pool.Put(b)
	}
	return
}

func fromAllocator(count uint64, thread int) (checksum uint64) {
	for i := uint64(0); i < count; i++ {
		b := new(buffer)
		sinks[thread] = b
		checksum += use(b, i)
	}
	return
}

func number(index int, fallback uint64) uint64 {
	if index >= len(os.Args) {
		return fallback
	}
	value, err := strconv.ParseUint(os.Args[index], 10, 40)
	if err != nil || value == 0 {
		fmt.Fprintf(os.Stderr, "pool: %s: expected a number\n", os.Args[index])
		os.Exit(2)
	}
	return value
}

func maxRSS() uint64 {
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		var kib uint64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d", &kib); n == 1 {
			return kib * 1024
		}
	}
	return 0
}

func main() {
	work := fromPool
	if len(os.Args) > 1 && os.Args[1] == "allocate" {
		work = fromAllocator
	} else if len(os.Args) > 1 && os.Args[1] != "pool" {
		fmt.Fprintf(os.Stderr, "pool: mode=%s: expected pool or allocate\n", os.Args[1])
		os.Exit(2)
	}
	threads := int(number(2, 1))
	count := number(3, 50000000)
	if threads > len(sinks) {
		fmt.Fprintf(os.Stderr, "pool: threads=%d: at most %d\n", threads, len(sinks))
		os.Exit(2)
	}
	var group sync.WaitGroup
	sums := make([]uint64, threads)
	start := time.Now()
	for t := 0; t < threads; t++ {
		group.Add(1)
		go func(t int) {
			sums[t] = work(count/uint64(threads), t)
			group.Done()
		}(t)
	}
	group.Wait()
	wall := uint64(time.Since(start))
	var checksum uint64
	for _, sum := range sums {
		checksum += sum
	}
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	fmt.Printf("ns_per_pair=%.3f\n", float64(wall)*float64(threads)/float64(count))
	fmt.Printf("allocator=go\nversion=%s\nwall_ns=%d\ncpu_ns=%d\nmax_rss_bytes=%d\ncollections=%d\nchecksum=%d\n",
		strings.TrimPrefix(runtime.Version(), "go"), wall, usage.Utime.Nano()+usage.Stime.Nano(), maxRSS(),
		memory.NumGC, checksum)
}
