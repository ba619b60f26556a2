// A Vulkan layer under which a driver compiles pipelines for a GPU that is not there: Mesa's RADV with RADV_FORCE_FAMILY, or
// ANV on a simulated kernel driver. Recording, submitting and waiting do nothing, memory is main memory, and so WebGPU and
// all that stands on it open and run; what they compute is nothing.
//
// While WAVEGATE_ISA_OUT is set in the environment, each compute pipeline is written beside that path: its SPIR-V (.spv),
// the driver's figures (.stats, lines of NAME=VALUE) and its disassembly (.asm). WAVEGATE_ISA_PRETEND=nvidia:DEVICE_ID has
// the device take that vendor's place and compiles nothing: for the SPIR-V that WebGPU makes for it.
#include "vulkan_subset.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define FUNCTION(f) ((PFN_vkVoidFunction)(f))

static PFN_vkGetInstanceProcAddr nextInstance;
static PFN_vkGetDeviceProcAddr nextDevice;
static VkInstance theInstance;

static VkResult nothing(void) { return VK_SUCCESS; }

static VkResult fullQueries(VkDevice d, VkHandle pool, uint32_t first, uint32_t count, size_t size, void *data) {
  memset(data, 0, size);
  return VK_SUCCESS;
}

// Dawn waits for a serial: all have passed.
static VkResult passed(VkDevice d, VkHandle semaphore, uint64_t *value) {
  *value = UINT64_MAX >> 1;
  return VK_SUCCESS;
}

// A driver without a kernel behind it has no fences that other processes could wait for, which Dawn asks for.
static VkResult createFence(VkDevice d, const void *info, const void *a, VkHandle *out) {
  *out = 1;
  return VK_SUCCESS;
}

// -1 stands for a fence that has been signalled.
static VkResult getFenceFile(VkDevice d, const void *info, int *file) {
  *file = -1;
  return VK_SUCCESS;
}

/* ---- the device that is pretended ---- */

static uint32_t pretended(void) {
  const char *text = getenv("WAVEGATE_ISA_PRETEND");
  return text && !strncmp(text, "nvidia:", 7) ? (uint32_t)strtoul(text + 7, 0, 16) : 0;
}

static void pretend(VkPhysicalDeviceProperties *p) {
  uint32_t id = pretended();
  if (!id) return;
  p->vendorID = 0x10de;
  p->deviceID = id;
  p->deviceType = VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU;
  p->driverVersion = 580u << 22;
  snprintf(p->deviceName, sizeof p->deviceName, "NVIDIA (pretended, device %04x)", id);
}

static void (*nextProperties)(VkPhysicalDevice, VkPhysicalDeviceProperties *);
static void (*nextProperties2)(VkPhysicalDevice, VkPhysicalDeviceProperties2 *);

static void properties(VkPhysicalDevice d, VkPhysicalDeviceProperties *p) {
  nextProperties(d, p);
  pretend(p);
}

static void properties2(VkPhysicalDevice d, VkPhysicalDeviceProperties2 *p) {
  nextProperties2(d, p);
  if (!pretended()) return;
  pretend(&p->properties);
  for (VkBase *each = p->base.pNext; each; each = each->pNext) {
    if (each->sType == VK_STRUCTURE_TYPE_SUBGROUP_SIZE_CONTROL_PROPERTIES ||
        each->sType == VK_STRUCTURE_TYPE_VULKAN_1_3_PROPERTIES) {
      VkPhysicalDeviceSubgroupSizeControlProperties *sizes = (void *)each;
      sizes->minSubgroupSize = sizes->maxSubgroupSize = 32;
    } else if (each->sType == VK_STRUCTURE_TYPE_SUBGROUP_PROPERTIES) {
      ((VkPhysicalDeviceSubgroupProperties *)each)->subgroupSize = 32;
    } else if (each->sType == VK_STRUCTURE_TYPE_VULKAN_1_1_PROPERTIES) {
      ((VkPhysicalDeviceVulkan11Properties *)each)->subgroupSize = 32;
    } else if (each->sType == VK_STRUCTURE_TYPE_DRIVER_PROPERTIES) {
      VkPhysicalDeviceDriverProperties *driver = (void *)each;
      driver->driverID = VK_DRIVER_ID_NVIDIA_PROPRIETARY;
      snprintf(driver->driverName, sizeof driver->driverName, "NVIDIA");
      snprintf(driver->driverInfo, sizeof driver->driverInfo, "580.00");
    }
  }
}

// What is pretended goes through a translator that knows no matrices of a subgroup.
static VkResult (*nextExtensions)(VkPhysicalDevice, const char *, uint32_t *, VkExtensionProperties *);

static VkResult extensions(VkPhysicalDevice d, const char *layer, uint32_t *count, VkExtensionProperties *out) {
  VkResult result = nextExtensions(d, layer, count, out);
  if (!out || !pretended() || result < 0) return result;
  for (uint32_t i = 0; i < *count; i++)
    if (strstr(out[i].extensionName, "cooperative_matrix")) out[i--] = out[--*count];
  return result;
}

/* ---- what is written of a pipeline ---- */

static FILE *beside(const char *suffix, const char *mode) {
  const char *path = getenv("WAVEGATE_ISA_OUT");
  if (!path || !*path) return 0;
  char name[4096];
  snprintf(name, sizeof name, "%s%s", path, suffix);
  FILE *file = fopen(name, mode);
  if (!file) fprintf(stderr, "wavegate isa: Cannot write %s\n", name);
  return file;
}

static VkResult (*nextModule)(VkDevice, const VkShaderModuleCreateInfo *, const void *, VkHandle *);

static VkResult createShaderModule(VkDevice d, const VkShaderModuleCreateInfo *info, const void *a, VkHandle *out) {
  FILE *file = beside(".spv", "wb");
  if (file) {
    fwrite(info->pCode, 1, info->codeSize, file);
    fclose(file);
  }
  return nextModule(d, info, a, out);
}

static VkResult (*nextPipelines)(VkDevice, VkHandle, uint32_t, const VkComputePipelineCreateInfo *, const void *, VkHandle *);
static VkResult (*executables)(VkDevice, const VkPipelineInfo *, uint32_t *, VkPipelineExecutableProperties *);
static VkResult (*statistics)(VkDevice, const VkPipelineExecutableInfo *, uint32_t *, VkPipelineExecutableStatistic *);
static VkResult (*representations)(VkDevice, const VkPipelineExecutableInfo *, uint32_t *,
                                   VkPipelineExecutableInternalRepresentation *);

enum { MOST_EXECUTABLES = 8, MOST_STATISTICS = 64, MOST_REPRESENTATIONS = 64 };

static void writeStatistics(VkDevice d, const VkPipelineExecutableInfo *of, FILE *file) {
  static VkPipelineExecutableStatistic all[MOST_STATISTICS];
  for (int i = 0; i < MOST_STATISTICS; i++) all[i].base = (VkBase){VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC, 0};
  uint32_t count = MOST_STATISTICS;
  if (statistics(d, of, &count, all) < 0) return;
  for (uint32_t i = 0; i < count; i++) {
    if (all[i].format == 3) fprintf(file, "%s=%g\n", all[i].name, all[i].value.f64);
    else fprintf(file, "%s=%llu\n", all[i].name, (unsigned long long)(all[i].format == 0 ? all[i].value.b32 : all[i].value.u64));
  }
}

// The last text that the driver keeps is the machine code.
static void writeAssembly(VkDevice d, const VkPipelineExecutableInfo *of, FILE *file) {
  static VkPipelineExecutableInternalRepresentation all[MOST_REPRESENTATIONS];
  memset(all, 0, sizeof all);
  for (int i = 0; i < MOST_REPRESENTATIONS; i++)
    all[i].base = (VkBase){VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INTERNAL_REPRESENTATION, 0};
  uint32_t count = MOST_REPRESENTATIONS;
  if (representations(d, of, &count, all) < 0 || count == 0) return;
  for (uint32_t i = 0; i < count; i++) all[i].pData = malloc(all[i].dataSize + 1);
  if (representations(d, of, &count, all) >= 0 && all[count - 1].isText)
    fprintf(file, "%.*s\n", (int)all[count - 1].dataSize, (char *)all[count - 1].pData);
  for (uint32_t i = 0; i < count; i++) free(all[i].pData);
}

static void writePipeline(VkDevice d, VkHandle pipeline) {
  FILE *stats = beside(".stats", "a");
  FILE *text = beside(".asm", "a");
  VkPipelineInfo info = {{VK_STRUCTURE_TYPE_PIPELINE_INFO, 0}, pipeline};
  VkPipelineExecutableProperties found[MOST_EXECUTABLES];
  for (int i = 0; i < MOST_EXECUTABLES; i++) found[i].base = (VkBase){VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES, 0};
  uint32_t count = MOST_EXECUTABLES;
  if (stats && text && executables(d, &info, &count, found) >= 0)
    for (uint32_t i = 0; i < count; i++) {
      VkPipelineExecutableInfo of = {{VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO, 0}, pipeline, i};
      fprintf(stats, "executable=%s\nsubgroup=%u\n", found[i].name, found[i].subgroupSize);
      writeStatistics(d, &of, stats);
      writeAssembly(d, &of, text);
    }
  if (stats) fclose(stats);
  if (text) fclose(text);
}

static VkResult createComputePipelines(VkDevice d, VkHandle cache, uint32_t n, const VkComputePipelineCreateInfo *info,
                                       const void *a, VkHandle *out) {
  if (pretended()) {
    for (uint32_t i = 0; i < n; i++) out[i] = 1;
    return VK_SUCCESS;
  }
  const char *wanted = getenv("WAVEGATE_ISA_OUT");
  if (!wanted || !*wanted || !executables) return nextPipelines(d, cache, n, info, a, out);
  VkComputePipelineCreateInfo *copy = malloc(n * sizeof *copy);
  if (!copy) return VK_ERROR_OUT_OF_HOST_MEMORY;
  memcpy(copy, info, n * sizeof *copy);
  for (uint32_t i = 0; i < n; i++)
    copy[i].flags |= VK_PIPELINE_CREATE_CAPTURE_STATISTICS | VK_PIPELINE_CREATE_CAPTURE_INTERNAL_REPRESENTATIONS;
  // Without a cache: what comes out of one has no figures.
  VkResult result = nextPipelines(d, 0, n, copy, a, out);
  free(copy);
  for (uint32_t i = 0; result == VK_SUCCESS && i < n; i++) writePipeline(d, out[i]);
  return result;
}

/* ---- instance and device ---- */

static VkLayerLink *takeLink(const void *info, int sType) {
  VkBase *each = ((VkBase *)info)->pNext;
  while (each && !(each->sType == sType && ((VkLayerCreateInfo *)each)->function == VK_LAYER_LINK_INFO)) each = each->pNext;
  VkLayerCreateInfo *chain = (VkLayerCreateInfo *)each;
  VkLayerLink *link = chain->link;
  chain->link = link->pNext;
  return link;
}

static VkResult createInstance(const void *info, const void *a, VkInstance *out) {
  nextInstance = takeLink(info, VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO)->getInstanceProcAddr;
  VkResult (*next)(const void *, const void *, VkInstance *) = (void *)nextInstance(0, "vkCreateInstance");
  VkResult result = next(info, a, out);
  theInstance = *out;
  return result;
}

static VkResult createDevice(VkPhysicalDevice p, const VkDeviceCreateInfo *info, const void *a, VkDevice *out) {
  VkLayerLink *link = takeLink(info, VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO);
  nextDevice = link->getDeviceProcAddr;
  VkResult (*next)(VkPhysicalDevice, const VkDeviceCreateInfo *, const void *, VkDevice *) =
      (void *)link->getInstanceProcAddr(theInstance, "vkCreateDevice");
  VkDeviceCreateInfo wider = *info;
  uint32_t n = info->enabledExtensionCount;
  const char **names = malloc((n + 1) * sizeof *names);
  if (!names) return VK_ERROR_OUT_OF_HOST_MEMORY;
  memcpy(names, info->ppEnabledExtensionNames, n * sizeof *names);
  names[n] = "VK_KHR_pipeline_executable_properties";
  VkPhysicalDevicePipelineExecutablePropertiesFeatures feature = {
      {VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_FEATURES, info->base.pNext}, 1};
  wider.base.pNext = &feature.base;
  wider.enabledExtensionCount = n + 1;
  wider.ppEnabledExtensionNames = names;
  VkResult result = next(p, &wider, a, out);
  free(names);
  if (result != VK_SUCCESS) return result;
  executables = (void *)nextDevice(*out, "vkGetPipelineExecutablePropertiesKHR");
  statistics = (void *)nextDevice(*out, "vkGetPipelineExecutableStatisticsKHR");
  representations = (void *)nextDevice(*out, "vkGetPipelineExecutableInternalRepresentationsKHR");
  return result;
}

/* ---- memory ---- */

typedef struct {
  size_t size;
  void *bytes;
} Memory;

static VkResult allocate(VkDevice d, const VkMemoryAllocateInfo *info, const void *a, VkHandle *out) {
  Memory *memory = calloc(1, sizeof *memory);
  if (!memory) return VK_ERROR_OUT_OF_HOST_MEMORY;
  memory->size = info->allocationSize;
  *out = (VkHandle)(uintptr_t)memory;
  return VK_SUCCESS;
}

static void release(VkDevice d, VkHandle handle, const void *a) {
  Memory *memory = (Memory *)(uintptr_t)handle;
  if (memory) free(memory->bytes);
  free(memory);
}

// Only what is mapped takes bytes.
static VkResult map(VkDevice d, VkHandle handle, VkDeviceSize from, VkDeviceSize size, VkFlags flags, void **out) {
  Memory *memory = (Memory *)(uintptr_t)handle;
  if (!memory->bytes) memory->bytes = calloc(1, memory->size);
  if (!memory->bytes) return VK_ERROR_OUT_OF_HOST_MEMORY;
  *out = (char *)memory->bytes + from;
  return VK_SUCCESS;
}

static void describeMemory(VkPhysicalDevice d, VkPhysicalDeviceMemoryProperties *out) {
  memset(out, 0, sizeof *out);
  out->memoryHeapCount = 1;
  out->memoryHeaps[0].size = 1ull << 36;
  out->memoryHeaps[0].flags = VK_MEMORY_HEAP_DEVICE_LOCAL;
  out->memoryTypeCount = 2;
  out->memoryTypes[0].propertyFlags = VK_MEMORY_PROPERTY_DEVICE_LOCAL;
  out->memoryTypes[1].propertyFlags = VK_MEMORY_PROPERTY_DEVICE_LOCAL | VK_MEMORY_PROPERTY_HOST_VISIBLE |
                                      VK_MEMORY_PROPERTY_HOST_COHERENT | VK_MEMORY_PROPERTY_HOST_CACHED;
}

static void describeMemory2(VkPhysicalDevice d, VkPhysicalDeviceMemoryProperties2 *out) {
  describeMemory(d, &out->memoryProperties);
}

static void (*nextRequirements)(VkDevice, VkHandle, VkMemoryRequirements *);
static void (*nextRequirements2)(VkDevice, const void *, VkMemoryRequirements2 *);

static void requirements(VkDevice d, VkHandle buffer, VkMemoryRequirements *out) {
  nextRequirements(d, buffer, out);
  out->memoryTypeBits = 3;
}

static void requirements2(VkDevice d, const void *info, VkMemoryRequirements2 *out) {
  nextRequirements2(d, info, out);
  out->memoryRequirements.memoryTypeBits = 3;
}

/* ---- dispatch ---- */

static int oneOf(const char *name, const char *const *names) {
  for (; *names; names++)
    if (!strcmp(name, *names)) return 1;
  return 0;
}

static int doesNothing(const char *name) {
  static const char *const names[] = {
      "vkBeginCommandBuffer", "vkEndCommandBuffer", "vkResetCommandBuffer", "vkResetCommandPool", "vkQueueSubmit",
      "vkQueueSubmit2", "vkQueueSubmit2KHR", "vkQueueWaitIdle", "vkDeviceWaitIdle", "vkGetFenceStatus", "vkWaitForFences", "vkDestroyFence",
      "vkResetFences", "vkWaitSemaphores", "vkWaitSemaphoresKHR", "vkQueueBindSparse", "vkUpdateDescriptorSets",
      "vkUpdateDescriptorSetWithTemplate", "vkUpdateDescriptorSetWithTemplateKHR", "vkUnmapMemory", "vkBindBufferMemory",
      "vkBindBufferMemory2", "vkBindBufferMemory2KHR", "vkBindImageMemory", "vkBindImageMemory2", "vkBindImageMemory2KHR",
      "vkFlushMappedMemoryRanges", "vkInvalidateMappedMemoryRanges", 0};
  return !strncmp(name, "vkCmd", 5) || oneOf(name, names) || (pretended() && !strcmp(name, "vkDestroyPipeline"));
}

EXPORT PFN_vkVoidFunction vkGetDeviceProcAddr(VkDevice d, const char *name) {
  if (!strcmp(name, "vkGetDeviceProcAddr")) return FUNCTION(vkGetDeviceProcAddr);
  PFN_vkVoidFunction next = nextDevice(d, name);
  if (!next) return 0;
  if (doesNothing(name)) return FUNCTION(nothing);
  if (!strcmp(name, "vkAllocateMemory")) return FUNCTION(allocate);
  if (!strcmp(name, "vkFreeMemory")) return FUNCTION(release);
  if (!strcmp(name, "vkMapMemory")) return FUNCTION(map);
  if (!strcmp(name, "vkCreateFence")) return FUNCTION(createFence);
  if (!strcmp(name, "vkGetFenceFdKHR")) return FUNCTION(getFenceFile);
  if (!strcmp(name, "vkGetQueryPoolResults")) return FUNCTION(fullQueries);
  if (!strncmp(name, "vkGetSemaphoreCounterValue", 26)) return FUNCTION(passed);
  if (!strcmp(name, "vkGetBufferMemoryRequirements")) return nextRequirements = (void *)next, FUNCTION(requirements);
  if (!strncmp(name, "vkGetBufferMemoryRequirements2", 30)) return nextRequirements2 = (void *)next, FUNCTION(requirements2);
  if (!strcmp(name, "vkCreateShaderModule")) return nextModule = (void *)next, FUNCTION(createShaderModule);
  if (!strcmp(name, "vkCreateComputePipelines")) return nextPipelines = (void *)next, FUNCTION(createComputePipelines);
  return next;
}

EXPORT PFN_vkVoidFunction vkGetInstanceProcAddr(VkInstance i, const char *name) {
  if (!strcmp(name, "vkGetInstanceProcAddr")) return FUNCTION(vkGetInstanceProcAddr);
  if (!strcmp(name, "vkGetDeviceProcAddr")) return FUNCTION(vkGetDeviceProcAddr);
  if (!strcmp(name, "vkCreateInstance")) return FUNCTION(createInstance);
  if (!strcmp(name, "vkCreateDevice")) return FUNCTION(createDevice);
  PFN_vkVoidFunction next = nextInstance ? nextInstance(i, name) : 0;
  if (!next) return 0;
  if (!strcmp(name, "vkGetPhysicalDeviceMemoryProperties")) return FUNCTION(describeMemory);
  if (!strncmp(name, "vkGetPhysicalDeviceMemoryProperties2", 36)) return FUNCTION(describeMemory2);
  if (!strcmp(name, "vkEnumerateDeviceExtensionProperties")) return nextExtensions = (void *)next, FUNCTION(extensions);
  if (!strcmp(name, "vkGetPhysicalDeviceProperties")) return nextProperties = (void *)next, FUNCTION(properties);
  if (!strncmp(name, "vkGetPhysicalDeviceProperties2", 30)) return nextProperties2 = (void *)next, FUNCTION(properties2);
  return next;
}
