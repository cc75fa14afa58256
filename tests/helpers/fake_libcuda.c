/* A CUDA driver for NVIDIA's bindings to call: device memory is the process's, work on a stream is
 * done at once, or kept while the stream is recorded. Handles that were not given out are refused,
 * and calls without a current context. left_over() counts what was made and not released.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, NO_CONTEXT = 201,
       INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600 };
#define DEVICE 40
#define CONTEXT ((void *)0xC0)
#define STREAM ((void *)0x51)
#define MEMORY_BYTES 1000000
#define NEEDS_CONTEXT if (!depth) return NO_CONTEXT
#define NEEDS_STREAM(s) if ((s) != STREAM) return INVALID_HANDLE

typedef struct Copy { void *to; const void *from; size_t size; struct Copy *next; } Copy;
typedef struct { int is_on_its_way; float reached_ms; } Event;

static void *stack[16];
static int depth, capturing;
static int contexts, streams, events, device_blocks, host_blocks, graphs, executables;
static float now_ms;
static Copy *captured, **last = &captured;

int left_over(int *counts) {
  int all[] = {depth, contexts, streams, events, device_blocks, host_blocks, graphs, executables};
  memcpy(counts, all, sizeof all);
  return sizeof all / sizeof *all;
}

int cuInit(unsigned flags) { return flags ? INVALID_VALUE : OK; }
int cuDriverGetVersion(int *version) { return *version = 13000, OK; }
int cuDeviceGet(int *device, int ordinal) { return ordinal ? INVALID_DEVICE : (*device = DEVICE, OK); }

int cuDevicePrimaryCtxRetain(void **context, int device) {
  if (device != DEVICE) return INVALID_DEVICE;
  return contexts++, *context = CONTEXT, OK;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
  return device == DEVICE ? (contexts--, OK) : INVALID_DEVICE;
}
int cuCtxPushCurrent_v2(void *context) { return stack[depth++] = context, OK; }
int cuCtxPopCurrent_v2(void **context) { NEEDS_CONTEXT; return *context = stack[--depth], OK; }

int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
  NEEDS_CONTEXT;
  return *free_bytes = MEMORY_BYTES, *total = 2 * MEMORY_BYTES, OK;
}
int cuMemAlloc_v2(uint64_t *address, size_t size) {
  NEEDS_CONTEXT;
  if (size > MEMORY_BYTES) return OUT_OF_MEMORY;
  return device_blocks++, *address = (uint64_t)malloc(size), OK;
}
int cuMemFree_v2(uint64_t address) { NEEDS_CONTEXT; return free((void *)address), device_blocks--, OK; }
int cuMemAllocHost_v2(void **address, size_t size) {
  NEEDS_CONTEXT;
  return host_blocks++, *address = malloc(size), OK;
}
int cuMemFreeHost(void *address) { NEEDS_CONTEXT; return free(address), host_blocks--, OK; }

static int copy(void *to, const void *from, size_t size, void *stream) {
  NEEDS_CONTEXT;
  NEEDS_STREAM(stream);
  if (!capturing) return memcpy(to, from, size), OK;
  *last = malloc(sizeof **last);
  **last = (Copy){to, from, size, NULL};
  return last = &(*last)->next, OK;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) {
  return copy((void *)to, from, size, stream);
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
  return copy(to, (void *)from, size, stream);
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void *stream) {
  return copy((void *)to, (void *)from, size, stream);
}

int cuStreamCreate(void **stream, unsigned flags) {
  NEEDS_CONTEXT;
  return flags ? INVALID_VALUE : (streams++, *stream = STREAM, OK);
}
int cuStreamSynchronize(void *stream) { NEEDS_CONTEXT; NEEDS_STREAM(stream); return OK; }
int cuStreamDestroy_v2(void *stream) { NEEDS_STREAM(stream); return streams--, OK; }

int cuEventCreate(Event **event, unsigned flags) {
  NEEDS_CONTEXT;
  return flags ? INVALID_VALUE : (events++, *event = calloc(1, sizeof **event), OK);
}
int cuEventRecord(Event *event, void *stream) {
  NEEDS_CONTEXT;
  NEEDS_STREAM(stream);
  return *event = (Event){1, now_ms += 1.5f}, OK;
}
/* Reached the second time that somebody asks. */
int cuEventQuery(Event *event) {
  NEEDS_CONTEXT;
  return event->is_on_its_way ? (event->is_on_its_way = 0, NOT_READY) : OK;
}
int cuEventSynchronize(Event *event) { NEEDS_CONTEXT; return event->is_on_its_way = 0, OK; }
int cuEventElapsedTime(float *ms, Event *start, Event *end) {
  NEEDS_CONTEXT;
  return *ms = end->reached_ms - start->reached_ms, OK;
}
int cuEventElapsedTime_v2(float *ms, Event *start, Event *end) {
  return cuEventElapsedTime(ms, start, end);
}
int cuEventDestroy_v2(Event *event) { return free(event), events--, OK; }

int cuStreamBeginCapture_v2(void *stream, int mode) {
  NEEDS_CONTEXT;
  NEEDS_STREAM(stream);
  return mode == 1 ? (capturing = 1, captured = NULL, last = &captured, OK) : INVALID_VALUE;
}
int cuStreamEndCapture(void *stream, Copy **graph) {
  NEEDS_CONTEXT;
  NEEDS_STREAM(stream);
  return capturing = 0, graphs++, *graph = captured, OK;
}
int cuGraphInstantiateWithFlags(Copy **executable, Copy *graph, unsigned long long flags) {
  return flags ? INVALID_VALUE : (executables++, *executable = graph, OK);
}
int cuGraphLaunch(Copy *executable, void *stream) {
  NEEDS_CONTEXT;
  NEEDS_STREAM(stream);
  for (Copy *each = executable; each; each = each->next) memcpy(each->to, each->from, each->size);
  return OK;
}
int cuGraphDestroy(Copy *graph) { return graphs--, OK; }
int cuGraphExecDestroy(Copy *executable) { return executables--, OK; }

int cuGetErrorString(int status, const char **words) {
  return *words = status == OUT_OF_MEMORY ? "out of memory"
                  : status == NO_CONTEXT  ? "invalid device context"
                                          : "something else",
         OK;
}

/* How the bindings find all the others. */
int cuGetProcAddress_v2(const char *name, void **found, int version, uint64_t flags, int *status) {
  static const char *const endings[] = {"_v2", "WithFlags", ""};
  void *here = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  char whole[200];
  *found = NULL;
  for (int i = 0; i < 3 && !*found; i++) {
    snprintf(whole, sizeof whole, "%s%s", name, endings[i]);
    *found = dlsym(here, whole);
  }
  if (status) *status = !*found;
  return *found ? OK : NOT_FOUND;
}
