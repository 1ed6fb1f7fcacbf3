// latency MIB THREADS REQUESTS: bench/latency.c in Go, which see.
//
// The same random numbers, objects, requests and checksum; goroutines in place of threads. Objects have one type for
// each size: a pointer, the value, and words that Go knows to hold no pointers.
//
// A stop is what debug.ReadGCStats calls a pause: of each collection the sum of its two stops. Reading them stops
// nobody.
package main

import (
	"fmt"
	"math"
	"math/bits"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	chain                = 4
	objectsOfRequest     = 50
	objectsOfReplacement = 12
	leastSize            = 32
	sizeStep             = 16
	sizes                = 15
	bytesOfSlot          = chain * (leastSize + (sizes-1)*sizeStep/2)
	valueStep            = 64
	mostThreads          = 64
	wordsOfHead          = 2
	readingEvery         = 4096
)

type object struct {
	next  *object
	value uint64
}

// newOfSize makes an object of leastSize + index * sizeStep bytes.
func newOfSize(index uint64) *object {
	switch index {
	case 0:
		return &new(struct {
			object
			_ [2]uint64
		}).object
	case 1:
		return &new(struct {
			object
			_ [4]uint64
		}).object
	case 2:
		return &new(struct {
			object
			_ [6]uint64
		}).object
	case 3:
		return &new(struct {
			object
			_ [8]uint64
		}).object
	case 4:
		return &new(struct {
			object
			_ [10]uint64
		}).object
	case 5:
		return &new(struct {
			object
			_ [12]uint64
		}).object
	case 6:
		return &new(struct {
			object
			_ [14]uint64
		}).object
	case 7:
		return &new(struct {
			object
			_ [16]uint64
		}).object
	case 8:
		return &new(struct {
			object
			_ [18]uint64
		}).object
	case 9:
		return &new(struct {
			object
			_ [20]uint64
		}).object
	case 10:
		return &new(struct {
			object
			_ [22]uint64
		}).object
	case 11:
		return &new(struct {
			object
			_ [24]uint64
		}).object
	case 12:
		return &new(struct {
			object
			_ [26]uint64
		}).object
	case 13:
		return &new(struct {
			object
			_ [28]uint64
		}).object
	default:
		return &new(struct {
			object
			_ [30]uint64
		}).object
	}
}

// filler is what follows the object's head. The words of a damaged head are no more than there can be.
func (o *object) filler() []uint64 {
	words := o.value % valueStep
	if words < leastSize/8 || words > leastSize/8+(sizes-1)*sizeStep/8 {
		return nil
	}
	return unsafe.Slice((*uint64)(unsafe.Add(unsafe.Pointer(o), wordsOfHead*8)), words-wordsOfHead)
}

func (o *object) fillerOf(slot uint64) uint64 {
	return (o.value^slot<<32)*0x9e3779b97f4a7c15 | 1<<63
}

func (o *object) fill(slot uint64) {
	first := o.fillerOf(slot) + wordsOfHead
	filler := o.filler()
	for i := range filler {
		filler[i] = first + uint64(i)
	}
}

func (o *object) isWhole(slot uint64) bool {
	first := o.fillerOf(slot) + wordsOfHead
	filler := o.filler()
	for i := range filler {
		if filler[i] != first+uint64(i) {
			return false
		}
	}
	return filler != nil
}

// A histogram as in bench/histogram.h.
const (
	histogramBits        = 7
	histogramSteps       = 1 << histogramBits
	histogramLargestBits = 40
	histogramBuckets     = (histogramLargestBits - histogramBits + 1) * histogramSteps
)

type histogram struct {
	count, sum, largest uint64
	buckets             [histogramBuckets]uint64
}

// newHistogram touches all of it: no page fault of ours may fall into what is measured.
func newHistogram() *histogram {
	h := new(histogram)
	for i := range h.buckets {
		h.buckets[i] = 0
	}
	return h
}

func (h *histogram) add(value uint64) {
	h.count++
	h.sum += value
	if value > h.largest {
		h.largest = value
	}
	switch {
	case value < histogramSteps:
		h.buckets[value]++
	case value>>histogramLargestBits != 0:
		h.buckets[histogramBuckets-1]++
	default:
		shift := 63 - histogramBits - uint64(bits.LeadingZeros64(value))
		h.buckets[shift*histogramSteps+value>>shift]++
	}
}

func (h *histogram) merge(from *histogram) {
	h.count += from.count
	h.sum += from.sum
	if from.largest > h.largest {
		h.largest = from.largest
	}
	for i := range h.buckets {
		h.buckets[i] += from.buckets[i]
	}
}

func upperEdge(bucket uint64) uint64 {
	if bucket < histogramSteps {
		return bucket
	}
	return (bucket%histogramSteps+histogramSteps+1)<<(bucket/histogramSteps-1) - 1
}

func (h *histogram) percentile(parts, of uint64) uint64 {
	wanted, seen := (h.count*parts+of-1)/of, uint64(0)
	for i := range h.buckets {
		seen += h.buckets[i]
		if seen < wanted {
			continue
		}
		if edge := upperEdge(uint64(i)); edge < h.largest {
			return edge
		}
		break
	}
	return h.largest
}

func (h *histogram) report(name string) {
	fmt.Printf("%ss=%d\n", name, h.count)
	for _, share := range []struct {
		name      string
		parts, of uint64
	}{{"p50", 50, 100}, {"p90", 90, 100}, {"p99", 99, 100}, {"p999", 999, 1000}, {"p9999", 9999, 10000}} {
		fmt.Printf("%s_%s_ns=%d\n", name, share.name, h.percentile(share.parts, share.of))
	}
	fmt.Printf("%s_max_ns=%d\n%s_total_ns=%d\n", name, h.largest, name, h.sum)
}

var (
	table         []*object
	slotsOfThread uint64
	epoch         = time.Now()
	stopsFound    = newHistogram()
	stopsSeen     int64
)

func nowNs() uint64 { return uint64(time.Since(epoch)) }

func stopsBegin() {
	var stats debug.GCStats
	debug.ReadGCStats(&stats)
	stopsSeen = stats.NumGC
}

func stopsRead() {
	var stats debug.GCStats
	debug.ReadGCStats(&stats)
	fresh := stats.NumGC - stopsSeen
	if fresh > int64(len(stats.Pause)) {
		fail("bench: more collections than the runtime keeps stops of: read them more often")
	}
	for _, pause := range stats.Pause[:fresh] {
		stopsFound.add(uint64(pause))
	}
	stopsSeen = stats.NumGC
}

type mutator struct {
	firstSlot   uint64
	random      uint64
	serial      uint64
	replacement uint64
	checksum    uint64
	began       uint64
	ended       uint64
	requests    *histogram
	_           [8]uint64 // the threads write to no line of each other's
}

func (m *mutator) randomBelow(bound uint64) uint64 {
	x := m.random
	x ^= x << 13
	x ^= x >> 7
	x ^= x << 17
	m.random = x
	return (x >> 32) * bound >> 32
}

func (m *mutator) newObject() *object {
	index := m.randomBelow(sizes)
	o := newOfSize(index)
	o.value = m.serial*valueStep + (leastSize+sizeStep*index)/8
	m.serial += mostThreads
	return o
}

func (m *mutator) build() {
	for slot := m.firstSlot; slot < m.firstSlot+slotsOfThread; slot++ {
		for i := 0; i < chain; i++ {
			o := m.newObject()
			o.fill(slot)
			o.next = table[slot]
			table[slot] = o
		}
	}
}

func (m *mutator) replace(o *object) {
	slot := m.firstSlot + m.randomBelow(slotsOfThread)
	old := table[slot]
	m.checksum += old.value
	o.next = old.next
	o.fill(slot)
	table[slot] = o
}

func (m *mutator) serveRequest() {
	var kept *object
	for i := 0; i < objectsOfRequest; i++ {
		o := m.newObject()
		m.replacement--
		if m.replacement == 0 {
			m.replacement = objectsOfReplacement
			m.replace(o)
		} else {
			o.next = kept
			kept = o
		}
	}
	for ; kept != nil; kept = kept.next {
		m.checksum += kept.value
	}
}

func (m *mutator) serve(requests uint64, readsStops bool) {
	began := nowNs()
	m.began = began
	for i := uint64(1); i <= requests; i++ {
		m.serveRequest()
		ended := nowNs()
		m.requests.add(ended - began)
		began = ended
		if readsStops && i%readingEvery == 0 {
			stopsRead()
			began = nowNs()
		}
	}
	m.ended = began
}

func liveChecksum() (sum uint64) {
	for slot, o := range table {
		for i := 0; i < chain; i, o = i+1, o.next {
			if o == nil || !o.isWhole(uint64(slot)) || (i == chain-1 && o.next != nil) {
				fail(fmt.Sprintf("latency: slot %d: object %d of the chain is damaged", slot, i))
			}
			sum = sum*31 + o.value
		}
	}
	return sum
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(1)
}

func argument(index int, name string, fallback, low, high uint64) uint64 {
	if index >= len(os.Args) {
		return fallback
	}
	value, err := strconv.ParseUint(os.Args[index], 10, 64)
	if err != nil || value < low || value > high {
		fmt.Fprintf(os.Stderr, "latency: %s=%s: expected a number from %d to %d\n", name, os.Args[index], low, high)
		os.Exit(2)
	}
	return value
}

func maxRssBytes() uint64 {
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		var kib uint64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d", &kib); n == 1 {
			return kib * 1024
		}
	}
	return 0
}

func reportRun(wall, checksum uint64) {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	var stats debug.GCStats
	debug.ReadGCStats(&stats)
	fmt.Printf("allocator=go\nversion=%s\n", strings.TrimPrefix(runtime.Version(), "go"))
	fmt.Printf("wall_ns=%d\ncpu_ns=%d\n", wall, usage.Utime.Nano()+usage.Stime.Nano())
	fmt.Printf("max_rss_bytes=%d\ncollections=%d\nchecksum=%d\n", maxRssBytes(), stats.NumGC, checksum)
}

// runMutators lets all threads build their part, collects, and lets them serve together. The sum of their checksums.
func runMutators(mutators []mutator, requests uint64) (checksum uint64) {
	var built, served sync.WaitGroup
	start := make(chan struct{})
	threads := uint64(len(mutators))
	for t := range mutators {
		m := &mutators[t]
		*m = mutator{firstSlot: uint64(t) * slotsOfThread, random: 88172645463325252 + uint64(t), serial: uint64(t),
			replacement: objectsOfReplacement, requests: newHistogram()}
		built.Add(1)
		served.Add(1)
		go func(first bool) {
			m.build()
			built.Done()
			<-start
			m.serve(requests/threads, first)
			served.Done()
		}(t == 0)
	}
	built.Wait()
	runtime.GC()
	stopsBegin()
	close(start)
	served.Wait()
	stopsRead()
	for t := range mutators {
		checksum += mutators[t].checksum
	}
	return checksum
}

func main() {
	mib := argument(1, "MiB", 64, 1, 65536)
	threads := argument(2, "threads", 1, 1, mostThreads)
	requests := argument(3, "requests", 500000, threads, 1<<32)
	slotsOfThread = mib * (1 << 20) / bytesOfSlot / threads
	table = make([]*object, slotsOfThread*threads)
	mutators := make([]mutator, threads)
	checksum := runMutators(mutators, requests)

	all := newHistogram()
	began, ended := uint64(math.MaxUint64), uint64(0)
	for t := range mutators {
		m := &mutators[t]
		all.merge(m.requests)
		if m.began < began {
			began = m.began
		}
		if m.ended > ended {
			ended = m.ended
		}
	}
	wall := ended - began
	fmt.Printf("requests_per_second=%.1f\n", float64(all.count)*1e9/float64(wall))
	all.report("request")
	stopsFound.report("stop")
	reportRun(wall, checksum+liveChecksum())
}
