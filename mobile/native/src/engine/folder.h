// Folders of a few files, put in place whole or not at all.
#pragma once

#include <functional>
#include <string>

namespace xpert {

/**
 * Refuses to replace what this library did not make: a file, or a folder that holds something else than an adapter.
 */
void refuse_foreign(const std::string &folder);

/**
 * Lets fill write files into a new folder beside the given one, and puts it in its place when fill has returned. Whatever fails, the folder
 * is as it was before.
 */
void write_folder(const std::string &folder, const std::function<void(const std::string &stage)> &fill);

/** Makes the folder that path stands in, where there is none. */
void make_parent(const std::string &path);

/** Removes what processes that were killed while they wrote path have left beside it, an hour ago or more. */
void remove_abandoned(const std::string &path);

}  // namespace xpert
