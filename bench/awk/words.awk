# Lines of random words are built, split, counted, reversed, edited and printed into strings: what awk programs do.
#
# lines       how many lines of 20 words
# vocabulary  how many different words: the live memory, about 100 bytes each

function random(bound) {
  seed = (seed * 16807) % 2147483647
  return seed % bound
}

function word(number,    text) {
  do {
    text = text substr("etaoinshrdlucmfwypvbgkqjxz", number % 26 + 1, 1)
    number = int(number / 26)
  } while (number > 0)
  return text
}

function reverse(parts, count,    i, other) {
  for (i = 1; i <= count / 2; i++) {
    other = count + 1 - i
    swap = parts[i]
    parts[i] = parts[other]
    parts[other] = swap
  }
}

function join(parts, count,    text, i) {
  text = parts[1]
  for (i = 2; i <= count; i++) text = text " " parts[i]
  return text
}

function mix(text,    i) {
  for (i = 1; i <= length(text); i += 7) sum = (sum * 31 + index("aeiourst <>", substr(text, i, 1))) % 1000000007
}

BEGIN {
  seed = 42
  for (line = 1; line <= lines; line++) {
    text = word(random(vocabulary))
    for (i = 1; i < 20; i++) text = text " " word(random(vocabulary))
    $0 = text
    for (i = 1; i <= NF; i++) counts[$i]++
    count = split(text, parts, " ")
    reverse(parts, count)
    text = join(parts, count)
    gsub(/[aeiou]/, "<&>", text)
    mix(text)
    if (line % 500 == 0) print sprintf("%6d %s", line, text)
  }
  for (w in counts) {
    different++
    total += counts[w] * length(w)
    if (counts[w] > most) most = counts[w]
  }
  print different, most, total, sum
}
