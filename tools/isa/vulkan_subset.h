// The few declarations of the Vulkan API and of its layer interface that the layer needs, so that a C compiler alone
// builds it. Names and layouts are those of the Vulkan specification, on 64-bit systems.
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef struct VkInstance_T *VkInstance;
typedef struct VkPhysicalDevice_T *VkPhysicalDevice;
typedef struct VkDevice_T *VkDevice;
typedef uint64_t VkHandle; // every handle that is not dispatchable
typedef uint64_t VkDeviceSize;
typedef uint32_t VkFlags;
typedef int VkResult;
typedef void (*PFN_vkVoidFunction)(void);
typedef PFN_vkVoidFunction (*PFN_vkGetInstanceProcAddr)(VkInstance, const char *);
typedef PFN_vkVoidFunction (*PFN_vkGetDeviceProcAddr)(VkDevice, const char *);

enum { VK_SUCCESS = 0, VK_INCOMPLETE = 5, VK_ERROR_OUT_OF_HOST_MEMORY = -1 };

enum {
  VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO = 47,
  VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO = 48,
  VK_STRUCTURE_TYPE_VULKAN_1_1_PROPERTIES = 50,
  VK_STRUCTURE_TYPE_VULKAN_1_3_PROPERTIES = 54,
  VK_STRUCTURE_TYPE_SUBGROUP_PROPERTIES = 1000094000,
  VK_STRUCTURE_TYPE_DRIVER_PROPERTIES = 1000196000,
  VK_STRUCTURE_TYPE_SUBGROUP_SIZE_CONTROL_PROPERTIES = 1000225000,
  VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_FEATURES = 1000269000,
  VK_STRUCTURE_TYPE_PIPELINE_INFO = 1000269001,
  VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES = 1000269002,
  VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO = 1000269003,
  VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC = 1000269004,
  VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INTERNAL_REPRESENTATION = 1000269005,
};

enum { VK_PIPELINE_CREATE_CAPTURE_STATISTICS = 0x40, VK_PIPELINE_CREATE_CAPTURE_INTERNAL_REPRESENTATIONS = 0x80 };
enum { VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU = 2, VK_DRIVER_ID_NVIDIA_PROPRIETARY = 4 };
enum { VK_LAYER_LINK_INFO = 0 };
enum { VK_MEMORY_HEAP_DEVICE_LOCAL = 1 };
enum {
  VK_MEMORY_PROPERTY_DEVICE_LOCAL = 1,
  VK_MEMORY_PROPERTY_HOST_VISIBLE = 2,
  VK_MEMORY_PROPERTY_HOST_COHERENT = 4,
  VK_MEMORY_PROPERTY_HOST_CACHED = 8,
};

// What every extensible structure begins with.
typedef struct VkBase {
  int sType;
  struct VkBase *pNext;
} VkBase;

typedef struct VkLayerLink {
  struct VkLayerLink *pNext;
  PFN_vkGetInstanceProcAddr getInstanceProcAddr;
  PFN_vkGetDeviceProcAddr getDeviceProcAddr; // in the link of a device alone
} VkLayerLink;

typedef struct {
  VkBase base;
  int function;
  VkLayerLink *link;
} VkLayerCreateInfo;

typedef struct {
  VkBase base;
  VkFlags flags;
  uint32_t queueCreateInfoCount;
  const void *pQueueCreateInfos;
  uint32_t enabledLayerCount;
  const char *const *ppEnabledLayerNames;
  uint32_t enabledExtensionCount;
  const char *const *ppEnabledExtensionNames;
  const void *pEnabledFeatures;
} VkDeviceCreateInfo;

typedef struct {
  VkBase base;
  VkFlags flags;
  size_t codeSize;
  const uint32_t *pCode;
} VkShaderModuleCreateInfo;

typedef struct {
  VkBase base;
  VkFlags flags;
  int stage;
  VkHandle module;
  const char *pName;
  const void *pSpecializationInfo;
} VkPipelineShaderStageCreateInfo;

typedef struct {
  VkBase base;
  VkFlags flags;
  VkPipelineShaderStageCreateInfo stage;
  VkHandle layout;
  VkHandle basePipelineHandle;
  int32_t basePipelineIndex;
} VkComputePipelineCreateInfo;

typedef struct {
  VkBase base;
  VkDeviceSize allocationSize;
  uint32_t memoryTypeIndex;
} VkMemoryAllocateInfo;

typedef struct {
  VkDeviceSize size, alignment;
  uint32_t memoryTypeBits;
} VkMemoryRequirements;

typedef struct {
  VkBase base;
  VkMemoryRequirements memoryRequirements;
} VkMemoryRequirements2;

typedef struct {
  uint32_t memoryTypeCount;
  struct {
    VkFlags propertyFlags;
    uint32_t heapIndex;
  } memoryTypes[32];
  uint32_t memoryHeapCount;
  struct {
    VkDeviceSize size;
    VkFlags flags;
  } memoryHeaps[16];
} VkPhysicalDeviceMemoryProperties;

typedef struct {
  VkBase base;
  VkPhysicalDeviceMemoryProperties memoryProperties;
} VkPhysicalDeviceMemoryProperties2;

typedef struct {
  char extensionName[256];
  uint32_t specVersion;
} VkExtensionProperties;

// The head of it; the limits follow.
typedef struct {
  uint32_t apiVersion, driverVersion, vendorID, deviceID;
  int deviceType;
  char deviceName[256];
} VkPhysicalDeviceProperties;

typedef struct {
  VkBase base;
  VkPhysicalDeviceProperties properties;
} VkPhysicalDeviceProperties2;

typedef struct {
  VkBase base;
  uint8_t deviceUUID[16], driverUUID[16], deviceLUID[8];
  uint32_t deviceNodeMask, deviceLUIDValid, subgroupSize;
} VkPhysicalDeviceVulkan11Properties;

// The head of VkPhysicalDeviceVulkan13Properties is the same.
typedef struct {
  VkBase base;
  uint32_t minSubgroupSize, maxSubgroupSize;
} VkPhysicalDeviceSubgroupSizeControlProperties;

typedef struct {
  VkBase base;
  uint32_t subgroupSize;
} VkPhysicalDeviceSubgroupProperties;

typedef struct {
  VkBase base;
  int driverID;
  char driverName[256], driverInfo[256];
} VkPhysicalDeviceDriverProperties;

typedef struct {
  VkBase base;
  uint32_t pipelineExecutableInfo;
} VkPhysicalDevicePipelineExecutablePropertiesFeatures;

typedef struct {
  VkBase base;
  VkHandle pipeline;
} VkPipelineInfo;

typedef struct {
  VkBase base;
  VkFlags stages;
  char name[256], description[256];
  uint32_t subgroupSize;
} VkPipelineExecutableProperties;

typedef struct {
  VkBase base;
  VkHandle pipeline;
  uint32_t executableIndex;
} VkPipelineExecutableInfo;

typedef struct {
  VkBase base;
  char name[256], description[256];
  int format; // 0 bool, 1 i64, 2 u64, 3 f64
  union {
    uint32_t b32;
    int64_t i64;
    uint64_t u64;
    double f64;
  } value;
} VkPipelineExecutableStatistic;

typedef struct {
  VkBase base;
  char name[256], description[256];
  uint32_t isText;
  size_t dataSize;
  void *pData;
} VkPipelineExecutableInternalRepresentation;
