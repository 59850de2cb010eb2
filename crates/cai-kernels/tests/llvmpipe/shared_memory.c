// A Vulkan layer that mends shaders on their way to the driver.
//
// cubecl-spirv 0.11.3 has two kinds of shared memory. The one for drivers without
// VK_KHR_workgroup_memory_explicit_layout declares each variable with a pointer too many
// (`lower_shared_implicit` in its src/ops/memory.rs exchanges a type with the pointer to it):
//
//     %v = OpVariable %pointer_to_pointer_to_array Workgroup
//
// spirv-val refuses such a shader, and Mesa's llvmpipe ends the process. This layer takes the type that
// is pointed to. To be removed when CubeCL declares the array.

#include <stdlib.h>
#include <string.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

enum { OP_TYPE_POINTER = 32, OP_VARIABLE = 59, WORKGROUP = 4, HEADER = 5, BOUND = 3 };

// One process, one driver: what comes after this layer is the same for all instances and devices.
static VkInstance instance;
static PFN_vkGetInstanceProcAddr next_in_instance;
static PFN_vkGetDeviceProcAddr next_in_device;

static VkResult create_shader_module(VkDevice device, const VkShaderModuleCreateInfo *info,
                                     const VkAllocationCallbacks *allocator, VkShaderModule *module) {
    VkShaderModuleCreateInfo mended = *info;
    uint32_t *code = malloc(info->codeSize);
    memcpy(code, info->pCode, info->codeSize);
    mended.pCode = code;
    // What each type of a pointer to shared memory points to.
    uint32_t *pointee = calloc(code[BOUND], sizeof *pointee);
    for (size_t at = HEADER; at < info->codeSize / 4; at += code[at] >> 16) {
        uint32_t *op = code + at, kind = op[0] & 0xffff;
        if (kind == OP_TYPE_POINTER && op[2] == WORKGROUP) pointee[op[1]] = op[3];
        if (kind == OP_VARIABLE && op[3] == WORKGROUP && pointee[pointee[op[1]]]) op[1] = pointee[op[1]];
    }
    PFN_vkCreateShaderModule next =
        (PFN_vkCreateShaderModule)next_in_device(device, "vkCreateShaderModule");
    VkResult result = next(device, &mended, allocator, module);
    free(pointee);
    free(code);
    return result;
}

static VkResult create_instance(const VkInstanceCreateInfo *info, const VkAllocationCallbacks *allocator,
                                VkInstance *created) {
    VkLayerInstanceCreateInfo *link = (void *)info->pNext;
    while (link->sType != VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO ||
           link->function != VK_LAYER_LINK_INFO)
        link = (void *)link->pNext;
    next_in_instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    PFN_vkCreateInstance next = (PFN_vkCreateInstance)next_in_instance(NULL, "vkCreateInstance");
    VkResult result = next(info, allocator, created);
    instance = *created;
    return result;
}

static VkResult create_device(VkPhysicalDevice gpu, const VkDeviceCreateInfo *info,
                              const VkAllocationCallbacks *allocator, VkDevice *created) {
    VkLayerDeviceCreateInfo *link = (void *)info->pNext;
    while (link->sType != VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO ||
           link->function != VK_LAYER_LINK_INFO)
        link = (void *)link->pNext;
    next_in_device = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    PFN_vkCreateDevice next = (PFN_vkCreateDevice)next_in_instance(instance, "vkCreateDevice");
    return next(gpu, info, allocator, created);
}

static PFN_vkVoidFunction in_device(VkDevice device, const char *name) {
    if (!strcmp(name, "vkGetDeviceProcAddr")) return (PFN_vkVoidFunction)in_device;
    if (!strcmp(name, "vkCreateShaderModule")) return (PFN_vkVoidFunction)create_shader_module;
    return next_in_device(device, name);
}

static PFN_vkVoidFunction in_instance(VkInstance of, const char *name) {
    if (!strcmp(name, "vkGetInstanceProcAddr")) return (PFN_vkVoidFunction)in_instance;
    if (!strcmp(name, "vkCreateInstance")) return (PFN_vkVoidFunction)create_instance;
    if (!strcmp(name, "vkCreateDevice")) return (PFN_vkVoidFunction)create_device;
    if (!strcmp(name, "vkGetDeviceProcAddr")) return (PFN_vkVoidFunction)in_device;
    if (!strcmp(name, "vkCreateShaderModule")) return (PFN_vkVoidFunction)create_shader_module;
    return next_in_instance(of, name);
}

VkResult vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *interface) {
    interface->loaderLayerInterfaceVersion = 2;
    interface->pfnGetInstanceProcAddr = in_instance;
    interface->pfnGetDeviceProcAddr = in_device;
    interface->pfnGetPhysicalDeviceProcAddr = NULL;
    return VK_SUCCESS;
}
