/* Size classes: the cell sizes of small objects and how many chunks a span of each takes.
 *
 * Cells are multiples of 16 bytes up to 128, then eight to a doubling, so that a size above 128 wastes less than 12.5 %
 * of its cell; spans are as long as is needed for their tail to waste no more than 12.5 % either. Class 0 stands for
 * large objects, which have a span of their own. class, cell bytes, chunks of 64 KiB */
#ifndef GCRT_BASE_SIZE_CLASSES_H
#define GCRT_BASE_SIZE_CLASSES_H

#include <stdint.h>

/* clang-format off */
#define GCRT_SIZE_CLASSES(CLASS)                                                                                       \
  CLASS(1, 16, 1) CLASS(2, 32, 1) CLASS(3, 48, 1) CLASS(4, 64, 1) CLASS(5, 80, 1)                                      \
  CLASS(6, 96, 1) CLASS(7, 112, 1) CLASS(8, 128, 1) CLASS(9, 144, 1) CLASS(10, 160, 1)                                 \
  CLASS(11, 176, 1) CLASS(12, 192, 1) CLASS(13, 208, 1) CLASS(14, 224, 1) CLASS(15, 240, 1)                            \
  CLASS(16, 256, 1) CLASS(17, 288, 1) CLASS(18, 320, 1) CLASS(19, 352, 1) CLASS(20, 384, 1)                            \
  CLASS(21, 416, 1) CLASS(22, 448, 1) CLASS(23, 480, 1) CLASS(24, 512, 1) CLASS(25, 576, 1)                            \
  CLASS(26, 640, 1) CLASS(27, 704, 1) CLASS(28, 768, 1) CLASS(29, 832, 1) CLASS(30, 896, 1)                            \
  CLASS(31, 960, 1) CLASS(32, 1024, 1) CLASS(33, 1152, 1) CLASS(34, 1280, 1) CLASS(35, 1408, 1)                        \
  CLASS(36, 1536, 1) CLASS(37, 1664, 1) CLASS(38, 1792, 1) CLASS(39, 1920, 1) CLASS(40, 2048, 1)                       \
  CLASS(41, 2304, 1) CLASS(42, 2560, 1) CLASS(43, 2816, 1) CLASS(44, 3072, 1) CLASS(45, 3328, 1)                       \
  CLASS(46, 3584, 1) CLASS(47, 3840, 1) CLASS(48, 4096, 1) CLASS(49, 4608, 1) CLASS(50, 5120, 1)                       \
  CLASS(51, 5632, 1) CLASS(52, 6144, 1) CLASS(53, 6656, 1) CLASS(54, 7168, 1) CLASS(55, 7680, 1)                       \
  CLASS(56, 8192, 1) CLASS(57, 9216, 1) CLASS(58, 10240, 1) CLASS(59, 11264, 2) CLASS(60, 12288, 1)                    \
  CLASS(61, 13312, 2) CLASS(62, 14336, 1) CLASS(63, 15360, 1) CLASS(64, 16384, 1) CLASS(65, 18432, 2)                  \
  CLASS(66, 20480, 1) CLASS(67, 22528, 3) CLASS(68, 24576, 2) CLASS(69, 26624, 3) CLASS(70, 28672, 1)                  \
  CLASS(71, 30720, 1) CLASS(72, 32768, 1)
/* clang-format on */

enum {
  GCRT_CLASSES = 73,      /* with class 0 */
  GCRT_SMALL_MAX = 32768, /* bytes; larger objects have a span of their own */
  GCRT_GRANULE = 16,      /* bytes; every cell is a multiple */
};

#define GCRT_CLASS_SIZE(number, bytes, chunks) [number] = (bytes),
static const uint16_t gcrt_class_size[GCRT_CLASSES] = {GCRT_SIZE_CLASSES(GCRT_CLASS_SIZE)};
#undef GCRT_CLASS_SIZE

#define GCRT_CLASS_CHUNKS(number, bytes, chunks) [number] = (chunks),
static const uint8_t gcrt_class_chunks[GCRT_CLASSES] = {GCRT_SIZE_CLASSES(GCRT_CLASS_CHUNKS)};
#undef GCRT_CLASS_CHUNKS

/* The smallest class that holds size bytes; size from 1 to GCRT_SMALL_MAX. */
static inline unsigned gcrt_class_of(unsigned size) {
  if (size <= 128) return (size + 15) / 16;
  unsigned doubling = 31U - (unsigned)__builtin_clz(size - 1); /* 2^doubling < size <= 2^(doubling + 1) */
  unsigned step = doubling - 3;
  return 8 + (doubling - 7) * 8 + (((size - 1) >> step) & 7) + 1;
}

#endif
