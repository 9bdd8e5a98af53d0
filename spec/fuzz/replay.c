// replay: gives each file of the named folders to a fuzz target once, without libFuzzer.
//   fuzz_json spec/fuzz/corpus/json
#include <assert.h>
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void replay(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *in = fopen(path, "rb");
    assert(in != NULL && fseek(in, 0, SEEK_END) == 0);
    size_t length = (size_t)ftell(in);
    rewind(in);
    uint8_t *bytes = malloc(length > 0 ? length : 1); // exactly as long: ASan sees a byte too many
    assert(bytes != NULL && fread(bytes, 1, length, in) == length);
    fclose(in);
    fprintf(stderr, "%s\n", path); // the last one named is the one that failed
    LLVMFuzzerTestOneInput(bytes, length);
    free(bytes);
}

int main(int argc, char **argv)
{
    int count = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        assert(folder != NULL);
        for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
            if (entry->d_name[0] == '.')
                continue;
            replay(argv[i], entry->d_name);
            count++;
        }
        closedir(folder);
    }
    printf("%d inputs replayed\n", count);
    return count > 0 ? 0 : 1;
}
