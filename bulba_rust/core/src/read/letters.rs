//! How likely one letter follows another in Belarusian, Russian and Ukrainian text.

/// The letters of the three languages in the order of [`BITS`], which begins with the edge of a word.
pub const LETTERS: &str = "абвгдежзийклмнопрстуфхцчшщъыьэюяёіїєґў";

/// Row: a letter, column: the next one, entry: −log2 of its probability in whole bits, one hexadecimal digit, capped
/// at 15. Counted in news, novels, plays, manuals and essays, the three languages weighing the same. Text costs 3.7
/// bits a letter, text read in a wrong encoding 8 and more.
pub const BITS: [&[u8; 39]; 39] = [
    b"f55454774584644535445777667fff7b58598e7", // edge
    b"2b5454565a54444c6444a965679fffc6699a7e6", // а
    b"43c9aa3db5f74853d4793f7aab763bc96b4feef", // б
    b"32a9973883f7585387575f9b87cc49dc6a4ffff", // в
    b"53d8d66fe5f84961e4b94ffe7afeff3fff5ffff", // г
    b"4286a74644f5484375674c9889ec577b7a5feff", // д
    b"286665766a5544386344b976778fffe89cbabd9", // е
    b"3388c429e3f57a35cca94ff97dfd497ebc7ffff", // ж
    b"3264654ab6f77535859a5fcb9aeb67db5a4ffff", // з
    b"28647658565444486644e856578ffff75efabff", // и
    b"1e7886c9aff656459a45ecd675efffffcfdffff", // й
    b"32b7fd6994fc4c62e4654fd6d97bffbfff4ffff", // к
    b"53ac9b38e3f79d73bf7a5ded9efd63d5383fdff", // л
    b"2398ce3ff4f77953698b4beabddb5bae6a4ffff", // м
    b"52ea973ca3f6cf43fb6558b787bd46b84a4fbff", // н
    b"2c434465685544596444c988679fffb78ec79f6", // о
    b"73feff3ff5f85f72a2875fd8a8ff7a9d7e5ffff", // п
    b"52977837a3d796539b65498897cd47586c5ffff", // р
    b"44a5c94ce5f4475448625a858afc75a8365ffff", // с
    b"42b5ea4ce3f68a63a4694bba9deb54797d6fcff", // т
    b"286464656d85445e5544ea66567fffc59fcc6fa", // у
    b"62dd9e3ee4dc68a3d49626eecdee888ccb3eeee", // ф
    b"13c6bd7ff6fb6862c6955eddecfbffceff5ffff", // х
    b"73d8fe3ff4f7ed86eed76ff3fffe4267473ffff", // ц
    b"5298ff3ff3f58b45faf44fea98fa385ca96ffff", // ч
    b"43e7ef3ff3f5465588834ff95cfe466dfb6ffff", // ш
    b"83ddee2ee3edde81ebee6eeeeeeee6eee77edee", // щ
    b"2bbabb1bbbbbbbbbbbbbbbbbbbbbbbb728ababb", // ъ
    b"2d75775a6c55435f6655ca4567dffff84a6fff6", // ы
    b"1f79897f59c3d535af46fcd7a5cffff77affdff", // ь
    b"565866a97f5455397451e67767fffffa8f9fff6", // э
    b"1b56a4987ea9898fb763fe94485fffe7ffdc6ef", // ю
    b"1f8655676c83655f7665ff76779ffff79dfc8f7", // я
    b"2dc665ba6d46542d8534dd9bccddddc9dddddd6", // ё
    b"187474b75f5545498645da55669ffff75a868f7", // і
    b"1dd5d6d87d5a855ddc76dd3baacdddddddd4ddd", // ї
    b"1ee5a6ddbec4a46da862dbcab6deeee5dec6bde", // є
    b"538588487788637573884888888888888828778", // ґ
    b"1d9575a56ff6583f7636fbd778fffffc9ecffff", // ў
];
