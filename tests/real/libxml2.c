/* libxml2 on gc_alloc, by xmlGcMemSetup; documents, contexts and results are never freed.
 *
 * xmlGcMemSetup is libxml2's own interface for collectors: text goes into noscan objects. The libc run frees as usual.
 * Documents are made from text, parsed, searched, changed, and written out again. */
#include "real.h"

#include <gcrt.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <libxml/xmlmemory.h>
#include <libxml/xpath.h>
#include <libxml/xpathInternals.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DOCUMENTS = 120, SECTIONS = 20, ENTRIES = 12 };

static bool on_collector;

static void drop(void *p) { (void)p; }

static void append(char **at, const char *end, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void append(char **at, const char *end, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(*at, (size_t)(end - *at), format, arguments);
  va_end(arguments);
  *at += length;
}

static size_t make_text(char *text, size_t size, int number) {
  char *at = text;
  const char *end = text + size;
  append(&at, end, "<?xml version=\"1.0\"?>\n<!DOCTYPE book [<!ENTITY who \"nobody &#38;#38; all\">]>\n");
  append(&at, end, "<book xmlns:m=\"urn:m\" id=\"b%d\"><!-- a comment -->", number);
  for (int i = 0; i < SECTIONS; i++) {
    append(&at, end, "<section n=\"%d\" m:kind=\"k%d\"><title>Section %d &who;</title>", i, i % 3, i);
    for (int j = 0; j < ENTRIES; j++)
      append(&at, end,
             "<entry key=\"%d\" value=\"v%d\">text %d &lt;%d&gt; <b>bold %d</b><![CDATA[raw <%d>]]></entry>\n",
             i * ENTRIES + j, (number + i * j) % 17, j, number, i + j, j);
    append(&at, end, "</section>");
  }
  append(&at, end, "</book>\n");
  return (size_t)(at - text);
}

static void search(xmlDocPtr doc, const char *expression) {
  xmlXPathContextPtr context = xmlXPathNewContext(doc);
  xmlXPathRegisterNs(context, BAD_CAST "m", BAD_CAST "urn:m");
  xmlXPathObjectPtr result = xmlXPathEvalExpression(BAD_CAST expression, context);
  if (result == NULL) {
    fprintf(stderr, "libxml2: %s has no result\n", expression);
    exit(1);
  }
  if (result->type == XPATH_NODESET && result->nodesetval != NULL) {
    printf("%s: %d nodes", expression, result->nodesetval->nodeNr);
    if (result->nodesetval->nodeNr > 0) {
      xmlChar *content = xmlNodeGetContent(result->nodesetval->nodeTab[result->nodesetval->nodeNr - 1]);
      printf(", the last is \"%.40s\"", (const char *)content);
      if (!on_collector) xmlFree(content);
    }
    printf("\n");
  } else {
    xmlChar *content = xmlXPathCastToString(result);
    printf("%s = %s\n", expression, (const char *)content);
    if (!on_collector) xmlFree(content);
  }
  if (!on_collector) {
    xmlXPathFreeObject(result);
    xmlXPathFreeContext(context);
  }
}

static void change(xmlDocPtr doc, int number) {
  xmlNodePtr root = xmlDocGetRootElement(doc);
  xmlNodePtr second = NULL;
  for (xmlNodePtr n = root->children; n != NULL; n = n->next)
    if (n->type == XML_ELEMENT_NODE && second == NULL && n->prev != NULL && n->prev->type == XML_ELEMENT_NODE)
      second = n;
  xmlUnlinkNode(second);
  if (!on_collector) xmlFreeNode(second);
  for (int i = 0; i < 20; i++) {
    char text[64];
    snprintf(text, sizeof text, "added %d to %d", i, number);
    xmlNodePtr added = xmlNewTextChild(root, NULL, BAD_CAST "added", BAD_CAST text);
    xmlNewProp(added, BAD_CAST "i", BAD_CAST text + 6);
  }
}

static unsigned long long sum_of(const xmlChar *text, int size) {
  unsigned long long sum = 14695981039346656037u;
  for (int i = 0; i < size; i++) sum = (sum ^ text[i]) * 1099511628211u;
  return sum;
}

static void work(int number) {
  static char text[256 << 10];
  size_t size = make_text(text, sizeof text, number);
  xmlDocPtr doc = xmlReadMemory(text, (int)size, "book.xml", NULL, XML_PARSE_NOENT);
  if (doc == NULL) {
    fprintf(stderr, "libxml2: document %d cannot be read\n", number);
    exit(1);
  }
  search(doc, "count(//entry)");
  search(doc, "//entry[@value='v3']");
  search(doc, "//section[@m:kind='k1']/title");
  search(doc, "string(//entry[@key='57'])");
  change(doc, number);
  search(doc, "//added[last()]/@i");
  xmlChar *out;
  int out_size;
  xmlDocDumpFormatMemory(doc, &out, &out_size, 1);
  printf("document %d: %d bytes, sum %llx\n", number, out_size, sum_of(out, out_size));
  if (number % 40 == 0) fwrite(out, 1, (size_t)out_size, stdout);
  if (!on_collector) {
    xmlFree(out);
    xmlFreeDoc(doc);
  }
}

static int run(bool collected) {
  on_collector = collected;
  if (collected && xmlGcMemSetup(drop, gc_alloc, gc_alloc_noscan, gc_realloc, gc_strdup) != 0) return 2;
  for (int i = 0; i < DOCUMENTS; i++) work(i);
  if (!collected) xmlCleanupParser();
  return 0;
}

const struct real_program real_program = {"libxml2", run};
